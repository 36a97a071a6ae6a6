//! The text format 0.0.4 as strictly as a scraper may read it: each metric once, with HELP and TYPE before its series, and
//! names that keep Prometheus's conventions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A scrape that was read.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Kinds by name, and the labels of their series.
    families: BTreeMap<String, (String, BTreeSet<String>)>,
    values: HashMap<String, f64>,
    /// In the order they came.
    series: Vec<(String, String)>,
}

impl Exposition {
    /// # Errors
    /// The line that is wrong, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        let mut helped = None;
        let mut current: Option<String> = None;
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        for line in text.lines() {
            let wrong = |why: &str| Err(format!("{line}: {why}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let Some((name, help)) = rest.split_once(' ') else { return wrong("no help") };
                if !help.ends_with('.') || all.families.contains_key(name) {
                    return wrong("help is a sentence, and comes once");
                }
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else { return wrong("no type") };
                if helped.take().as_deref() != Some(name) {
                    return wrong("no HELP before it");
                }
                if !matches!(kind, "counter" | "gauge" | "histogram") || (kind == "counter") != name.ends_with("_total")
                {
                    return wrong("a counter ends in _total, and nothing else does");
                }
                if ["_ms", "_milliseconds", "_count", "_sum", "_bucket", "_kb"].iter().any(|end| name.ends_with(end)) {
                    return wrong("a unit that is no base unit, or an end that belongs to histograms");
                }
                all.families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
                current = Some(name.to_owned());
            } else {
                let Some(family) = &current else { return wrong("a series before any TYPE") };
                all.sample(line, family).map_err(|why| format!("{line}: {why}"))?;
            }
        }
        all.check_histograms()?;
        Ok(all)
    }

    fn sample(&mut self, line: &str, family: &str) -> Result<(), String> {
        let name_ends = line.find(['{', ' ']).ok_or("no value")?;
        let (name, mut rest) = line.split_at(name_ends);
        let (kind, labels) = self.families.get_mut(family).ok_or("unknown")?;
        let suffix = name.strip_prefix(family).ok_or("among the series of another metric")?;
        let fits =
            if kind == "histogram" { ["_bucket", "_sum", "_count"].contains(&suffix) } else { suffix.is_empty() };
        if !fits || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return Err("no name of this metric".to_owned());
        }
        if let Some(mut pairs) = rest.strip_prefix('{') {
            loop {
                let (label, after) = pairs.split_once("=\"").ok_or("a label without a value")?;
                if label.is_empty() || !label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                    return Err(format!("label {label:?}"));
                }
                labels.extend((label != "le").then(|| label.to_owned()));
                pairs = after.get(value_ends(after)?..).ok_or("cut off")?;
                match pairs.split_at_checked(1) {
                    Some((",", next)) => pairs = next,
                    Some(("}", next)) => break rest = next,
                    _ => return Err("labels that do not end".to_owned()),
                }
            }
        }
        let value: f64 = rest.strip_prefix(' ').and_then(|value| value.parse().ok()).ok_or("no number")?;
        let series = line[..line.len() - rest.len()].to_owned();
        if self.values.insert(series.clone(), value).is_some() {
            return Err("comes twice".to_owned());
        }
        self.series.push((family.to_owned(), series));
        Ok(())
    }

    /// Buckets grow, and the last holds all.
    fn check_histograms(&self) -> Result<(), String> {
        let mut before = 0.0;
        for (family, series) in &self.series {
            let value = self.values[series];
            if series.starts_with(&format!("{family}_bucket")) {
                let is_first = series.contains("le=\"0.001\"");
                if !is_first && value < before {
                    return Err(format!("{series}: less than the bucket before"));
                }
                before = value;
            } else if series.starts_with(&format!("{family}_count")) && value != before {
                return Err(format!("{series}: not the last bucket's"));
            }
        }
        Ok(())
    }

    /// The value of a series, written as it came: name and labels.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.values.get(series).copied()
    }

    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.series.iter().map(|(_, series)| series.as_str())
    }

    /// Everything that may only grow.
    pub fn counters(&self) -> impl Iterator<Item = (&str, f64)> {
        let grows = |family: &str| self.families.get(family).is_some_and(|(kind, _)| kind != "gauge");
        self.series.iter().filter(move |(family, _)| grows(family)).map(|(_, series)| (&**series, self.values[series]))
    }

    /// Each metric: its name, its kind, the labels its series have.
    pub fn families(&self) -> impl Iterator<Item = (String, String, String)> {
        self.families.iter().map(|(name, (kind, labels))| {
            (name.clone(), kind.clone(), labels.iter().cloned().collect::<Vec<_>>().join(", "))
        })
    }
}

/// Where what follows a value in quotes begins; a quote, a backslash and a line end in it are escaped.
fn value_ends(text: &str) -> Result<usize, String> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped && !matches!(c, '\\' | '"' | 'n') => return Err(format!("\\{c} is no escape")),
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(at + 1),
            _ => {}
        }
    }
    Err("a value that does not end".to_owned())
}

#[test]
fn what_no_scraper_would_take_is_noticed() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    assert!(Exposition::parse(&format!("{head}a_total{{b=\"c\\\"\\n\"}} 1\na_total 2\n")).is_ok());
    for wrong in [
        "a_total 1",
        "a_total 1\n",
        "# TYPE a_total counter\na_total 1\n",
        "# HELP a A.\n# TYPE a counter\na 1\n",
        &format!("{head}a_total one\n"),
        &format!("{head}a_total 1\na_total 2\n"),
        &format!("{head}b_total 1\n"),
        &format!("{head}a_total{{b=\"c\"d\"}} 1\n"),
        &format!("{head}a_total{{b=\"c}} 1\n"),
        &format!("{head}a_total{{B=\"c\"}} 1\n"),
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"0.001\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
    ] {
        assert!(Exposition::parse(wrong).is_err(), "{wrong}");
    }
}
