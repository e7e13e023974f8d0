//! The program's door: hands the command line to the library.

use std::process::ExitCode;

use pg_witness::cli;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    cli::start(args, &argv0)
}
