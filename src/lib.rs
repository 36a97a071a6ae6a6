//! Sidegate: a local resolver that lets public and private API Gateway APIs work from one VPC.

pub mod admin;
pub mod config;
pub mod discovery;
pub mod dns;
pub mod forward;
pub mod policy;
