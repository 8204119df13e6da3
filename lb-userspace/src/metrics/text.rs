//! OpenMetrics text to Prometheus text 0.0.4. They differ in what heads a counter: the family's name without `_total` in
//! the one, the sample's name in the other; and in the closing `# EOF`.

use std::collections::HashSet;

/// The same samples in the older format.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let counters: HashSet<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        text.push_str(&heading(line, &counters).unwrap_or_else(|| line.to_owned()));
        text.push('\n');
    }
    text
}

/// A counter's HELP or TYPE line under the name of its samples.
fn heading(line: &str, counters: &HashSet<&str>) -> Option<String> {
    let (keyword, rest) = ["# HELP ", "# TYPE "]
        .into_iter()
        .find_map(|keyword| Some((keyword, line.strip_prefix(keyword)?)))?;
    let (name, tail) = rest.split_once(' ')?;
    counters.contains(name).then(|| format!("{keyword}{name}_total {tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_headings_of_counters_change() {
        let open =
            "# HELP a Help a.\n# TYPE a counter\na_total{x=\"1\"} 5\n# HELP b Help b.\n# TYPE b gauge\nb 1\n# EOF\n";
        let want = "# HELP a_total Help a.\n# TYPE a_total counter\na_total{x=\"1\"} 5\n# HELP b Help b.\n# TYPE b gauge\nb 1\n";
        assert_eq!(prometheus(open), want);
    }
}
