//! Counts what the readers find in a file: `cargo run --release -p vmcb-dump --example count FILE`.

use std::io::BufReader;

fn main() -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        let start = std::time::Instant::now();
        let mut count = 0u64;
        let mut error = None;
        for item in vmcb_dump::Reader::new(BufReader::with_capacity(1 << 20, std::fs::File::open(&path)?)) {
            match item {
                Ok(_) => count += 1,
                Err(failed) => error = Some(failed),
            }
        }
        println!("{}: {count} in {:?}; {error:?}", path.display(), start.elapsed());
    }
    Ok(())
}
