//! One test a row of `cases/`: the verdict is exactly the one that the row names.

#[path = "all/common/mod.rs"]
mod common;

use common::{Case, Expected, check};
use libtest_mimic::{Arguments, Failed, Trial};
use vmcb::{Limits, Phase};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let trials = match common::read_all(&common::directory()) {
        Ok(rows) => rows
            .cases
            .into_iter()
            .map(|case| Trial::test(format!("{}::{}", file(&case), case.id), move || run(&case)))
            .collect(),
        // A test that fails says it under every runner; an exit status alone does not.
        Err(errors) => vec![Trial::test("every row can be read", move || Err(common::lines(&errors).into()))],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The file without its ending, so that a file's rows can be run alone.
fn file(case: &Case) -> &str {
    case.place.split('.').next().unwrap_or_default()
}

fn run(case: &Case) -> Result<(), Failed> {
    let judged = Expected::of(&case.judge(&case.limits));
    compare(case, "judge", judged)?;
    // The pass that accepts is code of its own. It takes complete pages, as VMRUN reads them.
    if let (Some(vmcb), Phase::Before) = (case.vmcb.complete(), case.phase) {
        compare(case, "check", Expected::of(&check(vmcb, &case.limits, &case.environment())))?;
        if let Some(vmsa) = case.vmsa.as_ref().and_then(|page| page.complete()) {
            let environment = case.host.with_vmsa(vmcb::Vmsa::Page(vmsa));
            compare(
                case,
                "check with the whole VMSA",
                Expected::of(&check(vmcb, &case.limits, &environment)),
            )?;
        }
    }
    // A case's verdict survives the journey of its limits.
    let mut buffer = [0; Limits::ENCODED_MAX];
    let stored = Limits::decode(case.limits.encode(&mut buffer)).map_err(|e| e.to_string())?;
    compare(case, "judge with stored limits", Expected::of(&case.judge(&stored)))
}

fn compare(case: &Case, how: &str, found: Expected) -> Result<(), Failed> {
    if found == case.expected {
        return Ok(());
    }
    Err(format!("{}: by {how}\n  expected {:?}\n  found    {found:?}", case.place, case.expected).into())
}
