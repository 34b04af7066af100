//! The `tidewatch` command: arguments and exit codes, nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use tidewatch::cli::{self, Cli};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Nothing may use TLS before; a second installation would only say that there is one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    cli::execute(Cli::parse())
}
