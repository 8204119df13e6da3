//! What the demo shows, and the proof of each thing it says.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::interrupt::Interrupt;
use super::narrator::{Narrator, rows_of};
use super::screen::Screen;
use super::stage::{CONFIGURED, HOSTS, Stage};
use super::traffic::{Tally, Traffic};

/// The host whose web server dies.
const VICTIM: usize = 1;
/// The host that is removed by command.
const REMOVED: usize = 2;
/// The host that is added by command.
const ADDED: usize = 3;

/// Requests under way when a backend goes out may still end badly.
const SETTLE: Duration = Duration::from_millis(500);
/// The agent reads counters once a second.
const COUNTERS_SETTLE: Duration = Duration::from_millis(2500);
const FEWEST_REQUESTS: u64 = 100;

/// Plays every scene; an error as soon as something is not as it should be.
pub(super) fn play(stage: &Stage, screen: &mut Screen, interrupt: &Interrupt) -> Result<()> {
    let mut story = Narrator {
        stage,
        screen,
        interrupt,
    };
    story.traffic_flows()?;
    let traffic = Traffic::start(&stage.topology.client)?;
    let allowed = story.backend_dies(&traffic)?;
    story.backend_returns(&traffic)?;
    story.backend_is_removed(&traffic)?;
    story.backend_is_added(&traffic)?;
    story.totals(traffic.finish(), allowed)
}

impl Narrator<'_> {
    fn traffic_flows(&mut self) -> Result<()> {
        self.screen
            .headline("HTTP requests to port 80 and datagrams to port 7 from the client, over IPv4 and IPv6")?;
        let before = self.kernel_requests()?;
        let traffic = Traffic::start(&self.stage.topology.client)?;
        self.watch(Duration::from_secs(7))?;
        let tally = traffic.finish();
        no_failure(&tally)?;
        ensure!(
            tally.web_total() >= FEWEST_REQUESTS && tally.echo_total() >= FEWEST_REQUESTS,
            "too little traffic to show anything: {} requests, {} datagrams",
            tally.web_total(),
            tally.echo_total()
        );
        self.interrupt.sleep(COUNTERS_SETTLE)?;
        let after = self.kernel_requests()?;
        self.screen.line("")?;
        self.screen.line(&format!(
            "The client counted {} HTTP answers ({}) and {} echoes ({}), none failed.",
            tally.web_total(),
            Tally::shown(&tally.web),
            tally.echo_total(),
            Tally::shown(&tally.echo)
        ))?;
        for (service, counts) in [("web", &tally.web), ("echo", &tally.echo)] {
            for (name, _, _) in HOSTS.iter().take(CONFIGURED) {
                let key = (service.to_owned(), (*name).to_owned());
                let kernel = after.get(&key).unwrap_or(&0) - before.get(&key).unwrap_or(&0);
                let client = counts.get(*name).copied().unwrap_or_default();
                ensure!(
                    kernel == client && client > 0,
                    "{service}/{name}: the client counted {client} answers, the kernel {kernel} requests"
                );
            }
        }
        self.screen
            .line("The kernel's counters (new TCP connections, UDP packets) say the same, backend by backend.")
    }

    /// The times between which failed requests are explained: from the death to a moment after the check noticed.
    fn backend_dies(&mut self, traffic: &Traffic) -> Result<(Instant, Instant)> {
        let (name, port, _) = HOSTS[VICTIM];
        self.watch(Duration::from_secs(2))?;
        self.screen
            .headline(&format!("Stopping the web server of {name} (internal port {port})"))?;
        let died = Instant::now();
        self.stage.stop_web(VICTIM)?;
        self.wait_for(&format!("{name} to be out"), |status| {
            rows_of(status, "web", name).iter().all(|row| row["state"] == "down")
        })?;
        let noticed = died.elapsed();
        self.interrupt.sleep(SETTLE)?;
        let allowed = (died, Instant::now());
        let at_out = traffic.tally();
        self.watch(Duration::from_secs(4))?;
        let status = self.status()?;
        self.screen.line("")?;
        for row in rows_of(&status, "web", name) {
            ensure!(
                row["health"]["port_verdict"] == "refused",
                "{name} is out for another reason: {row}"
            );
            let text = row["health"]["text"].as_str().unwrap_or_default();
            ensure!(text.contains(&port.to_string()), "no word of port {port}: {row}");
            let next = row["health"]["next"].as_str().map(|next| format!("; next: {next}"));
            self.screen.line(&format!(
                "xlb: {}: {text}{}",
                row["name"].as_str().unwrap_or("?"),
                next.unwrap_or_default()
            ))?;
        }
        let later = traffic.tally();
        ensure!(
            later.web_of(name) == at_out.web_of(name),
            "{name} is out but answered {} requests",
            later.web_of(name) - at_out.web_of(name)
        );
        ensure!(
            later.web_total() > at_out.web_total() + FEWEST_REQUESTS,
            "the traffic stopped"
        );
        let lost = later.failures.iter().filter(|(at, _)| within(allowed, *at)).count();
        self.screen.line(&format!(
            "It was out {:.1} s after its death; {lost} requests met the dead port in between. Since then {} requests went \
             to the others and none to {name}.",
            noticed.as_secs_f32(),
            later.web_total() - at_out.web_total()
        ))?;
        Ok(allowed)
    }

    fn backend_returns(&mut self, traffic: &Traffic) -> Result<()> {
        let (name, _, _) = HOSTS[VICTIM];
        self.screen
            .headline(&format!("Starting the web server of {name} again"))?;
        let before = traffic.tally().web_of(name);
        self.stage.start_web(VICTIM)?;
        self.wait_for(&format!("{name} to be back"), |status| {
            rows_of(status, "web", name).iter().all(|row| row["state"] == "active")
        })?;
        self.watch(Duration::from_secs(4))?;
        let answers = traffic.tally().web_of(name) - before;
        ensure!(answers > 0, "{name} is back but got no request");
        self.screen.line("")?;
        self.screen
            .line(&format!("{name} takes its share again: {answers} requests."))
    }

    fn backend_is_removed(&mut self, traffic: &Traffic) -> Result<()> {
        let (name, _, _) = HOSTS[REMOVED];
        self.screen
            .headline(&format!("Removing {name} from the service with the command line"))?;
        for family in ["v4", "v6"] {
            self.command(&["backend", "remove", "web", &format!("{name}-{family}")])?;
        }
        self.interrupt.sleep(SETTLE)?;
        let before = traffic.tally();
        self.watch(Duration::from_secs(4))?;
        let after = traffic.tally();
        ensure!(
            after.web_of(name) == before.web_of(name) && after.web_total() > before.web_total() + FEWEST_REQUESTS,
            "{name} was removed and got {} of {} requests",
            after.web_of(name) - before.web_of(name),
            after.web_total() - before.web_total()
        );
        self.screen.line("")?;
        self.screen
            .line(&format!("No request reaches {name} any more, and none failed."))
    }

    fn backend_is_added(&mut self, traffic: &Traffic) -> Result<()> {
        let (name, port, _) = HOSTS[ADDED];
        self.screen
            .headline(&format!("Adding {name} on internal port {port} with the command line"))?;
        let host = self.stage.topology.backends.get(ADDED).context("a fourth host")?;
        let targets = [
            ("v4", crate::topology::host_port(host.address4, port)),
            ("v6", crate::topology::host_port(host.address6, port)),
        ];
        for (family, target) in targets {
            let name = format!("{name}-{family}");
            self.command(&["backend", "add", "web", &target, "--name", &name])?;
        }
        self.wait_for(&format!("{name} to be up"), |status| {
            let rows = rows_of(status, "web", name);
            rows.len() == 2 && rows.iter().all(|row| row["state"] == "active")
        })?;
        self.watch(Duration::from_secs(4))?;
        let answers = traffic.tally().web_of(name);
        ensure!(answers > 0, "{name} was added but got no request");
        let text = std::fs::read_to_string(self.stage.config()).context("read the config file")?;
        // The removed host stays in the file as a backend of the other service.
        let removed = format!("port = {}", HOSTS[REMOVED].1);
        ensure!(
            text.contains(&format!("{name}-v4")) && !text.contains(&removed),
            "the config file does not hold the changes:\n{text}"
        );
        self.screen.line("")?;
        self.screen.line(&format!(
            "{name} answered {answers} requests, and the config file holds both changes."
        ))
    }

    fn totals(&mut self, tally: Tally, allowed: (Instant, Instant)) -> Result<()> {
        self.screen.headline("Totals")?;
        self.screen.line(&format!(
            "{} HTTP answers ({}), {} echoes ({}).",
            tally.web_total(),
            Tally::shown(&tally.web),
            tally.echo_total(),
            Tally::shown(&tally.echo)
        ))?;
        let (explained, unexplained): (Vec<_>, Vec<_>) =
            tally.failures.iter().partition(|(at, _)| within(allowed, *at));
        if let Some((_, first)) = unexplained.first() {
            bail!(
                "{} requests failed that should not have, the first: {first}",
                unexplained.len()
            );
        }
        self.screen.line(&format!(
            "No request failed, but for {} between the death of {} and the check that noticed it.",
            explained.len(),
            HOSTS[VICTIM].0
        ))
    }
}

fn no_failure(tally: &Tally) -> Result<()> {
    match tally.failures.first() {
        Some((_, first)) => bail!("{} requests failed, the first: {first}", tally.failures.len()),
        None => Ok(()),
    }
}

fn within((from, to): (Instant, Instant), at: Instant) -> bool {
    // A request that ended in the window had the whole of it to fail in.
    from <= at && at <= to
}
