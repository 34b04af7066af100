//! The configuration for commands that need one.

use std::path::Path;

use anyhow::Result;

use crate::app;
use crate::config::{self, Config, Diagnostics, Loaded};

use super::output;

/// The configuration of `path`, or the built-in one; warnings are said on standard error.
pub(super) fn load(path: Option<&Path>) -> Result<Loaded> {
    let loaded = match path {
        Some(path) => config::load(path, &app::known())?,
        None => Loaded {
            config: Config::default(),
            warnings: Diagnostics::default(),
            sets_tick: false,
        },
    };
    output::warn(&loaded.warnings);
    Ok(loaded)
}
