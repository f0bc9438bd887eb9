//! Prints what the readers make of a file: `cargo run -p vmcb-dump --example show FILE`.

use std::io::BufReader;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args_os().skip(1) {
        for found in vmcb_dump::Reader::new(BufReader::new(std::fs::File::open(path)?)) {
            let found = found?;
            println!("{} at {}, {:?}, {:?}", found.kind, found.place, found.phase, found.vmcb);
            for field in &found.fields {
                println!(
                    "  {:?} {:03x} {} {:x} mask {:x} at {}",
                    field.page, field.offset, field.name, field.value, field.mask, field.place
                );
            }
            for refusal in &found.refusals {
                println!("  refused by {}: {} {:?}", refusal.by, refusal.condition, refusal.rules);
            }
            for remark in &found.remarks {
                println!("  remark at {}: {remark}", remark.place);
            }
        }
    }
    Ok(())
}
