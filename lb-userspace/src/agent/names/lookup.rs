//! Asks one question: the hosts file, then the servers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::book::{Outcome, Question};
use super::system::{Origin, System};
use crate::config::DnsConfig;
use crate::state::Family;

/// Whatever resolv.conf says about times and attempts.
const END_WITHIN: Duration = Duration::from_secs(40);
/// Questions that are asked at the same time.
const AT_ONCE: usize = 32;

/// The resolver, made anew when what it is made of changes.
pub(super) struct Lookup {
    system: Mutex<Option<System>>,
    /// Hundreds of names must not be a burst of hundreds of packets.
    places: Semaphore,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            system: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }
}

impl Lookup {
    pub(super) async fn ask(&self, question: &Question, dns: &DnsConfig) -> Outcome {
        // Never closed, so that there is no error.
        let _place = self.places.acquire().await;
        let system = match self.system(dns).await {
            Ok(system) => system,
            Err(why) => return Outcome::Failed(why),
        };
        match timeout(END_WITHIN, ask(&system, question, dns)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(format!("no answer in time (asked {})", system.servers)),
        }
    }

    async fn system(&self, dns: &DnsConfig) -> Result<System, String> {
        let origin = Origin::look(&dns.servers).await?;
        let mut known = self.system.lock().await;
        if let Some(system) = known.as_ref().filter(|system| system.origin == origin) {
            return Ok(system.clone());
        }
        let system = origin.system()?;
        Ok(known.insert(system).clone())
    }
}

async fn ask(system: &System, question: &Question, dns: &DnsConfig) -> Outcome {
    let record = match question.family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let name = match Name::from_utf8(question.host.as_str()) {
        Ok(name) => name,
        Err(error) => return Outcome::Failed(format!("not a name for the DNS: {error}")),
    };
    if let Some(of_file) = of_hosts(system, &name, record) {
        let ttl = dns.max_ttl;
        return if of_file.is_empty() {
            Outcome::Empty { ttl }
        } else {
            Outcome::Answer {
                addresses: of_file,
                ttl,
            }
        };
    }
    // TTLs are our business, and what is asked again should be answered anew.
    system.resolver.clear_cache();
    match system.resolver.lookup(name, record).await {
        Ok(lookup) => {
            let addresses: BTreeSet<IpAddr> = lookup.answers().iter().filter_map(|one| one.data.ip_addr()).collect();
            // Aliases on the way are part of the answer.
            let ttl_s = lookup.answers().iter().map(|one| one.ttl).min().unwrap_or(0);
            let ttl = Duration::from_secs(ttl_s.into());
            if addresses.is_empty() {
                Outcome::Empty { ttl }
            } else {
                Outcome::Answer { addresses, ttl }
            }
        }
        Err(error) => failed(&error, &system.servers),
    }
}

/// Addresses of a line in the hosts file; `None` where it does not have the name at all.
fn of_hosts(system: &System, name: &Name, record: RecordType) -> Option<BTreeSet<IpAddr>> {
    let of = |record| system.hosts.lookup_static_host(&Query::query(name.clone(), record));
    let found = of(record);
    if found.is_none() {
        let other = if record == RecordType::A {
            RecordType::AAAA
        } else {
            RecordType::A
        };
        return of(other).map(|_| BTreeSet::new());
    }
    Some(found?.answers().iter().filter_map(|one| one.data.ip_addr()).collect())
}

fn failed(error: &NetError, servers: &str) -> Outcome {
    let why = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError => {
                let ttl = Duration::from_secs(none.negative_ttl.unwrap_or(0).into());
                return Outcome::Empty { ttl };
            }
            code => of_code(code),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => of_code(*code),
        NetError::Timeout => "no answer in time".to_owned(),
        other => other.to_string(),
    };
    Outcome::Failed(format!("{why} (asked {servers})"))
}

fn of_code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NXDomain => "NXDOMAIN, there is no such name".to_owned(),
        ResponseCode::ServFail => "SERVFAIL, the server could not find out".to_owned(),
        ResponseCode::Refused => "REFUSED, the server does not answer us".to_owned(),
        other => format!("the server answered {other}"),
    }
}
