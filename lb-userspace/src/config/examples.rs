//! A wrong and a right config for codes whose mistake is easier seen than told. `xlb explain` shows them; a test holds
//! each against [`super::parse`].

/// A mistake and its repair. Sections that do not matter are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The code that the wrong one has.
    pub code: &'static str,
    /// TOML with that finding.
    pub wrong: &'static str,
    /// TOML without any.
    pub right: &'static str,
}

/// The example of a code, where there is one.
pub fn example(id: &str) -> Option<&'static Example> {
    EXAMPLES.iter().find(|example| example.code == id)
}

const EXAMPLES: &[Example] = &[
    Example {
        code: "XLB0106",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10/32"
port = 80
backend = [{ address = "10.0.0.11" }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11" }]
"#,
    },
    Example {
        code: "XLB0113",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
check = { interval = "2s" }
backend = [{ address = "10.0.0.11" }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
check = { tcp = {}, interval = "2s" }
backend = [{ address = "10.0.0.11" }]
"#,
    },
    Example {
        code: "XLB0203",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11" }]

[[service]]
name = "shop"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.12" }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11" }]

[[service]]
name = "shop"
vip = "203.0.113.10"
port = 8080
backend = [{ address = "10.0.0.12" }]
"#,
    },
    Example {
        code: "XLB0204",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8081 }, { name = "again", address = "10.0.0.11", port = 8081 }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8081, weight = 200 }]
"#,
    },
    Example {
        code: "XLB0207",
        wrong: r#"[agent]
interfaces = ["eth0"]
snat_ports = "9000-20000"
"#,
        right: r#"[agent]
interfaces = ["eth0"]
snat_ports = "10240-20000"
"#,
    },
    Example {
        code: "XLB0208",
        wrong: r#"[[service]]
name = "web"
vip = "10.0.0.11"
port = 80
backend = [{ address = "10.0.0.11", port = 8081 }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8081 }]
"#,
    },
    Example {
        code: "XLB0210",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.11", port = 8080 }]

[[service]]
name = "shop"
vip = "203.0.113.11"
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.11", port = 8080 }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.11", port = 8080 }]

[[service]]
name = "shop"
vip = "203.0.113.11"
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.11", port = 8090 }]
"#,
    },
    Example {
        code: "XLB0214",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
check = { tcp = {}, interval = "1s", timeout = "2s" }
backend = [{ address = "10.0.0.11" }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
check = { tcp = {}, interval = "2s", timeout = "1s" }
backend = [{ address = "10.0.0.11" }]
"#,
    },
    Example {
        code: "XLB0215",
        wrong: r#"[agent]
interfaces = ["eth0"]
snat_addresses = ["203.0.113.10"]

[[service]]
name = "web"
vip = "203.0.113.10"
port = 12000
backend = [{ address = "10.0.0.11" }]
"#,
        right: r#"[agent]
interfaces = ["eth0"]
snat_addresses = ["203.0.113.10"]
snat_ports = "16384-32767"

[[service]]
name = "web"
vip = "203.0.113.10"
port = 12000
backend = [{ address = "10.0.0.11" }]
"#,
    },
    Example {
        code: "XLB0223",
        wrong: r#"[agent]
interfaces = ["eth0"]
http = "0.0.0.0:12000"
"#,
        right: r#"[agent]
interfaces = ["eth0"]
http = "0.0.0.0:9180"
"#,
    },
    Example {
        code: "XLB0304",
        wrong: r#"[agent]
interfaces = ["eth0"]
snat_ports = "20000-40000"
"#,
        right: r#"[agent]
interfaces = ["eth0"]
snat_ports = "12000-32000"
"#,
    },
    Example {
        code: "XLB0311",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]

[[service]]
name = "shop"
vip = "203.0.113.11"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]

[[service]]
name = "shop"
vip = "203.0.113.11"
port = 80
backend = [{ address = "10.0.0.11", port = 8090 }]
"#,
    },
    Example {
        code: "XLB0312",
        wrong: r#"[[service]]
name = "web"
vip = ["203.0.113.10", "203.0.113.11"]
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.11" }]
"#,
        right: r#"[[service]]
name = "web"
vip = ["203.0.113.10", "203.0.113.11"]
port = 80
mode = "full_nat"
backend = [{ address = "10.0.0.11" }]
"#,
    },
    Example {
        code: "XLB0313",
        wrong: r#"[[service]]
name = "web"
vip = ["203.0.113.10", "2001:db8::10"]
port = 80
backend = [{ address = "10.0.0.11" }]
"#,
        right: r#"[[service]]
name = "web"
vip = ["203.0.113.10", "2001:db8::10"]
port = 80
backend = [{ address = "10.0.0.11" }, { address = "2001:db8:1::11" }]
"#,
    },
    Example {
        code: "XLB0401",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 443
check = { http = { path = "/healthz" } }
backend = [{ address = "10.0.0.11", port = 8443 }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 443
check = { https = { path = "/healthz", sni = "www.example.org" } }
backend = [{ address = "10.0.0.11", port = 8443 }]
"#,
    },
    Example {
        code: "XLB0402",
        wrong: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11" }]
"#,
        right: r#"[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.11" }]
"#,
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Diagnostic, Severity, explain, parse};

    /// The findings of an example, with what it leaves out. Hints only where they are what it is about.
    fn found(example: &Example, text: &str) -> Vec<Diagnostic> {
        let about = explain(example.code).map(|code| code.severity);
        let mut all = every(text);
        all.retain(|one| one.severity != Severity::Hint || about == Some(Severity::Hint));
        all
    }

    fn every(text: &str) -> Vec<Diagnostic> {
        let mut whole = text.to_owned();
        if !text.contains("[agent]") {
            whole.insert_str(0, "[agent]\ninterfaces = [\"eth0\"]\n");
        }
        if !text.contains("[[service]]") {
            whole.push_str("[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 80\n");
            whole.push_str("backend = [{ address = \"10.0.0.11\" }]\n");
        }
        match parse(Path::new("xlb.toml"), &whole) {
            Ok((_, warnings)) => warnings,
            Err(all) => all,
        }
    }

    #[test]
    fn the_wrong_one_has_this_code_alone_and_the_right_one_nothing() {
        for example in EXAMPLES {
            assert!(explain(example.code).is_some(), "{}", example.code);
            let wrong: Vec<_> = found(example, example.wrong).iter().map(|one| one.code).collect();
            assert_eq!(wrong, [example.code], "{}", example.wrong);
            assert_eq!(found(example, example.right), [], "{}", example.right);
        }
    }
}
