//! `sidegate demo`: a VPC on loopback, and a Sidegate in it; or the VPC alone, for a Sidegate in another container.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{App, Surroundings};
use crate::config::{Config, Inputs};
use crate::demo::client::Way;
use crate::demo::{self, Addresses, World};
use crate::forward::Entrance;

/// Where the world stands without a Sidegate. Both addresses and the file, or none of them.
#[derive(Debug, clap::Args)]
pub(super) struct Alone {
    /// Serve the demo's VPC alone, for a Sidegate elsewhere: its resolver and endpoint, on ports 53 and 443 here
    #[arg(long, value_name = "ADDRESS", requires_all = ["internet", "ca"], conflicts_with = "keep")]
    vpc: Option<Ipv4Addr>,
    /// With --vpc: the public resolver and the public gate, on ports 53 and 443 here
    #[arg(long, value_name = "ADDRESS", requires = "vpc")]
    internet: Option<Ipv4Addr>,
    /// With --vpc: where to write the root certificate that callers need
    #[arg(long, value_name = "FILE", requires = "vpc")]
    ca: Option<PathBuf>,
}

/// What the command line asks for; whether it came out as it should.
pub(super) async fn run(keep: bool, alone: Alone) -> anyhow::Result<bool> {
    match alone {
        Alone { vpc: Some(vpc), internet: Some(internet), ca: Some(ca) } => {
            serve(Addresses::two_networks(vpc, internet), &ca).await
        }
        _ => show(keep).await,
    }
}

/// Serves a world until SIGTERM or SIGINT. The certificate is there once everything is bound.
async fn serve(addresses: Addresses, ca: &Path) -> anyhow::Result<bool> {
    let ended = ended()?;
    let world = World::start_at(addresses).await?;
    std::fs::write(ca, world.ca_pem()).with_context(|| format!("cannot write {}", ca.display()))?;
    let (vpc, internet) = (world.vpc_resolver(), world.public_resolver());
    super::say(format!("VPC resolver on {vpc}, public resolver on {internet}, root certificate in {}", ca.display()));
    ended.await;
    Ok(true)
}

/// Listens for SIGTERM and SIGINT from now on; the future returns at the first.
fn ended() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Shows the problem and its cure; whether every call came out as it should. However it ends, its file goes with it.
async fn show(keep: bool) -> anyhow::Result<bool> {
    let ended = ended()?;
    tokio::pin!(ended);
    let world = World::start().await?;
    let ca = CaFile::write(&world.ca_pem())?;
    let played = play(&world, ca.path(), keep);
    let (app, right) = tokio::select! {
        played = played => played?,
        () = &mut ended => return Ok(false),
    };
    if keep {
        ended.await;
    }
    app.drain().await;
    Ok(right)
}

/// A Sidegate in the world, and whether every call came out as it should.
async fn play(world: &World, ca: &Path, keep: bool) -> anyhow::Result<(App, bool)> {
    let out = &mut io::stdout();
    let colour = demo::wants_colour(out);
    let app = beside(world, ca).await?;
    let ways = ways(&app);
    let right = demo::run(world, &ways, out, colour).await?;
    if keep {
        demo::hints(world, &ways, ca, out)?;
    }
    Ok((app, right))
}

/// A Sidegate in the world: its resolvers as upstreams, the private id listed, ports the system chooses.
async fn beside(world: &World, ca: &Path) -> anyhow::Result<App> {
    let names = world.names();
    let toml = format!(
        r#"
        clients = ["127.0.0.0/8"]
        state_dir = ""
        [policy]
        region = "{region}"
        private_api_ids = ["{id}"]
        [upstream]
        public = ["{public}"]
        vpc = ["{vpc}"]
        default = "vpc"
        [dns]
        listen = ["127.0.0.1:0"]
        workers = 1
        [[endpoint]]
        port = {port}
        [forward]
        allow = ["{domain}"]
        public_networks = ["127.0.0.0/8"]
        public_port = {port}
        extra_roots = ['{ca}']
        [forward.connect]
        listen = ["127.0.0.1:0"]
        [forward.sni]
        listen = ["127.0.0.1:0"]
        [forward.http]
        listen = ["127.0.0.1:0"]
        [admin]
        listen = ""
        "#,
        region = names.region,
        id = names.private_id,
        public = world.public_resolver(),
        vpc = world.vpc_resolver(),
        port = world.https_port(),
        domain = names.custom_domain,
        ca = ca.display(),
    );
    let inputs = Inputs { file: Some(("demo".to_owned(), toml)), environment: Vec::new() };
    let app = App::start(Config::load(&inputs)?, Surroundings::of_host()).await?;
    app.is_ready().await;
    Ok(app)
}

/// Where it can be asked and entered.
fn ways(app: &App) -> Vec<Way> {
    let dns = app.dns_addresses().into_iter().map(Way::Dns);
    let forwarder = app.forward_addresses().into_iter().map(|(entrance, address)| match entrance {
        Entrance::Connect => Way::Connect(address),
        Entrance::Sni => Way::Sni(address),
        Entrance::Http => Way::Http(address),
    });
    dns.chain(forwarder).collect()
}

/// The root certificate of a world, in a file that ends with this value.
struct CaFile {
    directory: PathBuf,
    file: PathBuf,
}

impl CaFile {
    fn write(pem: &str) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("sidegate-demo-{:08x}", rand::random::<u32>()));
        // One that is there already is somebody else's.
        std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let file = directory.join("ca.pem");
        let written = std::fs::write(&file, pem).with_context(|| format!("cannot write {}", file.display()));
        let this = Self { directory, file };
        written.map(|()| this)
    }

    fn path(&self) -> &Path {
        &self.file
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        // What cannot be removed is a public certificate in a temporary folder.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_proxy_variable_reaches_the_private_and_the_public_api() {
        let world = World::start().await.unwrap();
        let ca = CaFile::write(&world.ca_pem()).unwrap();
        let app = beside(&world, ca.path()).await.unwrap();
        let proxy = ways(&app).into_iter().find(|way| matches!(way, Way::Connect(_))).unwrap();
        for (name, through) in [(world.names().private_api, "the endpoint"), (world.names().public_api, "the internet")]
        {
            let reply = world.client().call(proxy, name).await.reply.unwrap();
            assert_eq!((reply.status.as_u16(), reply.through.as_deref()), (200, Some(through)), "{name}");
        }
    }

    #[test]
    fn the_file_with_the_root_goes_with_its_value() {
        let ca = CaFile::write("PEM").unwrap();
        let (directory, file) = (ca.directory.clone(), ca.file.clone());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "PEM");
        drop(ca);
        assert!(!directory.exists());
    }
}
