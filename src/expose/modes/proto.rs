//! The messages, client and server of `proto/tidewatch/v1/modes.proto`.

// Generated; the proto file holds the documentation.
#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("tidewatch.v1");
