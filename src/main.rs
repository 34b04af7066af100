//! The `tidewatch` command: arguments and exit codes, nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use tidewatch::cli::{self, Cli, Wiring};
use tidewatch::config::Known;

fn main() -> ExitCode {
    // Nothing may use TLS before; a second installation would only say that there is one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    cli::execute(Cli::parse(), &wiring())
}

/// What the commands start and what configurations may refer to.
fn wiring() -> Wiring {
    Wiring {
        known: Known {
            detectors: vec!["robust", "zscore", "threshold"],
            template: |_| Ok(()),
        },
        run: |_| Box::pin(async { anyhow::bail!("the daemon is not linked into this build") }),
        demo: |_| Box::pin(async { anyhow::bail!("the demo is not linked into this build") }),
    }
}
