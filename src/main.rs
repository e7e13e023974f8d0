//! The program's door: hands the command line to the library.

fn main() {}
