//! Sidegate: a local resolver that lets public and private API Gateway APIs work from one VPC.
//!
//! In a VPC whose `execute-api` endpoint has private DNS on, every API's name resolves to that endpoint, which serves
//! private APIs only. Sidegate answers with the endpoint's addresses for APIs known to be private, and sends every other
//! name to public resolution. ARCHITECTURE.md has the whole on one page; this is the map of the crate:
//!
//! - [`config`]: what the operator writes, read into values that cannot be wrong
//! - [`policy`]: which way does a name go? Pure, shared by both planes
//! - [`dns`]: plane 1, the resolver
//! - [`forward`]: plane 2, the HTTPS forwarder
//! - [`discovery`]: private ids and endpoint addresses, made into the policy's table
//! - [`admin`]: is it up, is it ready, is it alive, what does it know?
//! - [`doctor`]: why do I get a 403?
//! - [`demo`]: a VPC in a box on loopback
//! - [`tcp_listener`]: how a connection comes to be one, in both planes
//! - [`histogram`]: how long things took, in both planes
//! - [`interfaces`], [`resolv_conf`]: the addresses and the name servers of this host
//! - [`inherited`], [`notify`]: the sockets that systemd hands over, and what it is told
//! - [`roots`], [`egress_proxy`]: whose certificates are believed; the proxy between us and the internet
//! - [`whole_file`]: files that are read whole and replaced whole
//! - [`recent`]: the last few of something, kept only while somebody looks
//! - [`app`]: composes all of it; the only file that knows everyone
//! - [`cli`], [`logging`]: the commands, and where their words go

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod dns;
pub mod doctor;
pub mod egress_proxy;
pub mod forward;
pub mod histogram;
pub mod inherited;
pub mod interfaces;
pub mod logging;
pub mod notify;
pub mod policy;
pub mod recent;
pub mod resolv_conf;
pub mod roots;
pub mod server_tls;
pub mod tcp_listener;
pub mod whole_file;
