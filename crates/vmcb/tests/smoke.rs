//! The minimal legal VMCBs of the rulebook.
#![allow(missing_docs)]
use vmcb::*;

fn base() -> [u8; 4096] {
    let mut p = [0; 4096];
    let mut put = |o: usize, v: u64| p[o..o + 8].copy_from_slice(&v.to_le_bytes());
    put(0x10, 1);
    put(0x58, 1);
    put(0x40, 0x10000);
    put(0x48, 0x20000);
    put(0x4D0, 0x1500);
    put(0x558, 0x8000_0011);
    put(0x548, 0x20);
    put(0x550, 0x3000);
    put(0x568, 0xffff_0ff0);
    put(0x560, 0x400);
    put(0x570, 2);
    put(0x668, 0x0007_0406_0007_0406);
    p[0x412] = 0x9b;
    p[0x413] = 2;
    p
}

#[test]
fn minimal() {
    let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
    let env = [Input::HostMsrs, Input::VmcbAddress]
        .into_iter()
        .fold(Environment::real_host(), |e, i| e.take_over(i));
    let v = check(&base(), &limits, &env);
    assert_eq!(v.decision(), Decision::Accepted, "{v:?}");
    assert!(admit::<Nothing>(&base(), &limits, &env).is_err());
    let known = KnownPage::all(&base());
    assert_eq!(judge(&known, Phase::Before, &limits, &env), v);
    let mut p = base();
    p[0x413] = 6;
    assert!(check(&p, &limits, &env).broken().iter().eq([Rule::SavCsLAndD]));
    for rule in Rule::ALL {
        println!("{rule:?} {}", rule.id());
    }
    println!("{} {}", core::mem::size_of::<Limits>(), Limits::ENCODED_MAX);
}
