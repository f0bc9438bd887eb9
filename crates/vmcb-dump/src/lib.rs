//! Readers of VMCBs as people meet them.
