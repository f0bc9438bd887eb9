#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blocks;
mod dumps;
mod follow;
mod judge;
mod options;
mod report;
mod vcpu;
mod work;

pub use follow::{Fate, Followed, Problem};
pub use options::Options;
pub use report::{
    Condition, Finding, Injected, MOST_CONDITIONS, MOST_VCPUS, Report, RuleCount, Source, Standing,
};
pub use vcpu::{Vcpu, VcpuKey};

use blocks::{Block, Blocks, Slices};
use dumps::Dumps;
use follow::Follower;
use judge::Judge;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, mpsc};
use work::Worker;

/// Scans an input to its end. `progress` is told the bytes done, now and then.
///
/// # Errors
/// Reading failed.
pub fn scan(input: impl Read + Send, options: &Options, progress: impl FnMut(u64)) -> io::Result<Report> {
    scan_blocks(Blocks::new(input, options.block), options, progress)
}

/// Scans what is in memory, without copying it.
#[must_use]
pub fn scan_bytes(bytes: &[u8], options: &Options) -> Report {
    let report = scan_blocks(Slices::new(bytes, options.block), options, |_| {});
    // Memory can always be read.
    report.unwrap_or_else(|_| Report::new(0))
}

fn scan_blocks<'a>(
    mut blocks: impl blocks::Source<'a>,
    options: &Options,
    mut progress: impl FnMut(u64),
) -> io::Result<Report> {
    let mut whole = Whole::new(options);
    if options.jobs <= 1 {
        let mut worker = Worker::new(options);
        let mut block = Block::default();
        while blocks.next(&mut block)? {
            whole.add(worker.work(&block));
            progress(whole.report.bytes);
        }
        return Ok(whole.end());
    }
    // As many blocks are under way as threads and a few that wait: the reader stops when all are taken.
    let under_way = options.jobs * 2 + 2;
    let (free_in, free_out) = mpsc::sync_channel::<Block<'a>>(under_way);
    let (full_in, full_out) = mpsc::sync_channel::<(u64, Block<'a>)>(under_way);
    let (done_in, done_out) = mpsc::sync_channel(under_way);
    let full_out = Mutex::new(full_out);
    for _ in 0..under_way {
        // There is room for all of them.
        let _ = free_in.send(Block::default());
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> io::Result<()> {
            for number in 0.. {
                let Ok(mut block) = free_out.recv() else { break };
                if !blocks.next(&mut block)? || full_in.send((number, block)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        for _ in 0..options.jobs {
            let (full_out, done_in, free_in) = (&full_out, done_in.clone(), free_in.clone());
            scope.spawn(move || {
                let mut worker = Worker::new(options);
                loop {
                    let next = full_out.lock().map(|queue| queue.recv());
                    let Ok(Ok((number, block))) = next else { break };
                    let part = worker.work(&block);
                    if done_in.send((number, part)).is_err() {
                        break;
                    }
                    // When the reader has ended nobody needs it any more.
                    let _ = free_in.try_send(block);
                }
            });
        }
        drop((done_in, free_in));
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (number, part) in done_out {
            early.insert(number, part);
            while let Some(part) = early.remove(&next) {
                whole.add(part);
                next += 1;
            }
            progress(whole.report.bytes);
        }
        reader.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread ended")))
    })?;
    Ok(whole.end())
}

/// What is put together in the order of the input.
struct Whole {
    report: Report,
    dumps: Dumps,
    follower: Option<Follower>,
}

impl Whole {
    fn new(options: &Options) -> Self {
        Self {
            report: Report::new(options.lines),
            dumps: Dumps::new(Judge::new(options)),
            follower: options.events.then(|| Follower::new(options.lines)),
        }
    }

    fn add(&mut self, part: work::Part) {
        let first = self.report.lines;
        if let Some(follower) = &mut self.follower {
            for record in &part.records {
                follower.take(record, first);
            }
        }
        for (line, text) in part.dump_lines {
            self.dumps.take(first + line, &text, &mut self.report);
        }
        self.report.merge(part.report);
    }

    fn end(mut self) -> Report {
        self.dumps.flush(&mut self.report);
        self.report.events = self.follower.map(Follower::end);
        self.report.settle();
        self.report
    }
}
