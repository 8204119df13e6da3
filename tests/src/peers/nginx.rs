//! nginx as a backend: `/` says whose it is, `/healthz` is for checks, `/files/` takes and gives files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::http_get;
use crate::netns::{Namespace, Room};
use crate::process::{Process, run, wait_until};

/// A running nginx. Dropping it stops it.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    files: PathBuf,
    port: u16,
}

impl Nginx {
    /// Starts nginx on every address of the namespace, both families, and waits until it answers.
    pub fn start(room: &Room, namespace: &Namespace, name: &str, port: u16) -> Result<Self> {
        let dir = room.file(&format!("nginx-{name}-{port}"));
        let files = dir.join("files");
        for path in [&dir, &files] {
            fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
            // The worker may run as another user.
            fs::set_permissions(path, fs::Permissions::from_mode(0o777))
                .with_context(|| format!("chmod {}", path.display()))?;
        }
        let config = dir.join("nginx.conf");
        fs::write(&config, config_text(&dir, name, port)).with_context(|| format!("write {}", config.display()))?;
        let mut command = namespace.command("nginx");
        command
            .arg("-p")
            .arg(&dir)
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-c")
            .arg(&config);
        let mut process = Process::start(&format!("nginx {name}"), &mut command, &dir.join("nginx.log"))?;
        wait_until(&format!("nginx {name} on port {port}"), Duration::from_secs(5), || {
            if let Some(status) = process.ended()? {
                // No use waiting: the reason is in its log.
                panic!("nginx {name} ended: {status}: {}", process.output());
            }
            let url = format!("http://127.0.0.1:{port}/healthz");
            run(namespace.command("curl").args(["-sfo", "/dev/null", &url])).map(|_| true)
        })?;
        Ok(Self { process, files, port })
    }

    /// Where `/files/` is.
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// Lets it run on after this process.
    pub fn release(self) {
        self.process.release();
    }

    /// Its process id.
    pub fn pid(&self) -> nix::unistd::Pid {
        self.process.pid()
    }

    /// Connections accepted so far, by its own count.
    pub fn accepted(&self, namespace: &Namespace) -> Result<u64> {
        let status = http_get(namespace, &format!("http://127.0.0.1:{}/status", self.port))?;
        // Line 3: "accepts handled requests" as three numbers.
        let numbers = status.lines().nth(2).context("nginx's status is too short")?;
        let accepted = numbers
            .split_whitespace()
            .next()
            .context("no number in nginx's status")?;
        accepted.parse().with_context(|| format!("nginx's status: {status}"))
    }
}

fn config_text(dir: &Path, name: &str, port: u16) -> String {
    let dir = dir.display();
    format!(
        "daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 16500;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    sendfile on;
    keepalive_requests 1000000;
    keepalive_timeout 600s;
    server {{
        listen [::]:{port} ipv6only=off backlog=4096 reuseport;
        location = / {{ return 200 \"{name}\\n\"; }}
        location = /status {{ stub_status; }}
        location = /healthz {{ return 200 \"ok\\n\"; }}
        location /files/ {{
            root {dir};
            client_max_body_size 0;
            dav_methods PUT;
        }}
    }}
}}
"
    )
}
