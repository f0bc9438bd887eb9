//! All integration tests of what implementations check, in one binary, which is cheaper to link.

mod guest;
mod known;
mod predictions;
mod table;
