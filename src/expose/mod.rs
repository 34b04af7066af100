//! (to come)
pub mod modes;
pub mod answer;
