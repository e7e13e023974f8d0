//! The program's door: hands the command line to the library.
//!
//! No global allocator stands here: in the static program memory is musl's, which was
//! measured against two in Rust (x86_64, the witness of two real Raft nodes; RSS in MB).
//! RSS decides: a follower idles most of its life, on a small board.
//!
//! | | musl | dlmalloc 0.2.14 | rlsf 0.2.3 |
//! |---|---:|---:|---:|
//! | idle follower | 3.0 | 3.3 | 3.3 |
//! | 20 s after load (16, then 64 clients) | 4.1 | 4.7 | 4.7 |
//! | with 4 MB in the store, through 200 writes | 13.0 | 25.3 | 24.4 |
//! | CPU of the leader per `set()`, 64 clients | 0.073 ms | 0.062 ms | 0.055 ms |
//! | program, bytes | 2,478,648 | 2,503,384 | 2,495,160 |

use std::process::ExitCode;

use pg_witness::cli;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    cli::start(args, &argv0)
}
