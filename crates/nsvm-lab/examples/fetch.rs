//! Fetches what its arguments name, `qemu@sid` or `kernel:6.1.0-50-amd64@bookworm`; with a suite alone,
//! lists its kernels; without any, lists what is here.
use nsvm_lab::fetch::Fetcher;
use nsvm_lab::store::{Kind, Store, installed};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::open(&Store::default_root()?)?;
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        let listing = store.list()?;
        for subject in &listing.subjects {
            println!("{subject}\t{} MB\t{}", subject.size / 1_000_000, subject.root.display());
        }
        for (_, error) in &listing.damaged {
            println!("damaged: {error}");
        }
        for found in installed() {
            match found {
                Ok(subject) => println!("{subject}\t{}", subject.program().unwrap_or_default().display()),
                Err(error) => println!("{error}"),
            }
        }
    }
    let mut fetcher = Fetcher::new(&store)?;
    let mut failed = false;
    for text in wanted {
        let start = Instant::now();
        if !text.contains('@') {
            for kernel in fetcher.available(Kind::Kernel, &text, &mut |line| println!("{line}"))? {
                println!("{} {} {} MB", kernel.package, kernel.version, kernel.size / 1_000_000);
            }
            continue;
        }
        let done =
            text.parse().and_then(|request| fetcher.fetch(&request, &mut |line| println!("{text}: {line}")));
        match done {
            Ok(subject) => {
                println!("{text}: {:.1} s, {}", start.elapsed().as_secs_f32(), subject.root.display())
            }
            Err(error) => {
                failed = true;
                println!("{text}: {error}");
            }
        }
    }
    if failed { Err("not all could be fetched".into()) } else { Ok(()) }
}
