//! Writes a trace to the standard output: `trace BYTES [dense|sparse]`.

mod generate;

use std::io::{BufWriter, Write as _};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bytes = arguments.next().and_then(|bytes| bytes.parse().ok());
    let (Some(bytes), kind) = (bytes, arguments.next()) else {
        eprintln!("usage: trace BYTES [dense|sparse]");
        std::process::exit(3);
    };
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    generate::Trace::new(1, kind.as_deref() != Some("sparse")).write(&mut out, bytes)?;
    out.flush()
}
