//! Writes inputs for the fuzzer, each format whole and damaged:
//! `cargo run -p vmcb-dump --example seeds -- fuzz/corpus/readers`.

#[path = "../tests/generate/mod.rs"]
mod generate;

use generate::{Random, WRITERS, damage};
use std::path::PathBuf;

/// Files of a format.
const FILES: u64 = 40;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("usage: seeds DIRECTORY"));
    };
    std::fs::create_dir_all(&directory)?;
    for (name, write) in WRITERS {
        for seed in 0..FILES {
            let mut random = Random::seeded(seed);
            let written = write(&mut random);
            let text = if seed % 2 == 0 { written.text } else { damage::damage(&written, &mut random).0 };
            std::fs::write(directory.join(format!("{name}-{seed}")), text)?;
        }
    }
    Ok(())
}
