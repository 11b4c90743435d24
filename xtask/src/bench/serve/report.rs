//! What was measured, as tables for people, Markdown for a page and JSON for tools. A goal that was missed is said as plainly as one that was
//! reached; nothing here fails because of a time.

use crate::bench::{Measured, Series};
use serde_json::{Map, Value, json};

/// Requests a second.
pub const RATE: &str = "requests";
/// Half took no longer.
pub const P50: &str = "p50";
/// 99 of 100 took no longer.
pub const P99: &str = "p99";
/// What a request takes of the server's core.
pub const CORE: &str = "core";

/// Ours by the Open Inference Protocol over REST.
pub const REST: &str = "Gristmill V2 REST";
/// The same with binary tensors.
pub const BINARY: &str = "Gristmill V2 REST, binary";
/// The same over gRPC.
pub const GRPC: &str = "Gristmill V2 gRPC";
/// Ours by `/predict`.
pub const PREDICT: &str = "Gristmill /predict";

/// What is aimed at.
struct Goal {
    /// What is looked at.
    figure: &'static str,
    /// Of whom.
    ours: &'static str,
    /// Beside whom.
    theirs: &'static str,
    /// A rate is at least so many times theirs; a time is at most so many times theirs.
    times: f64,
}

/// Judged where several connections are open: over one, everybody waits for the client.
const GOALS: [Goal; 6] = [
    Goal { figure: RATE, ours: REST, theirs: "FastAPI + ONNX Runtime", times: 25.0 },
    Goal { figure: RATE, ours: REST, theirs: "MLServer", times: 40.0 },
    Goal { figure: P99, ours: REST, theirs: "FastAPI + ONNX Runtime", times: 1.0 / 40.0 },
    Goal { figure: RATE, ours: REST, theirs: "nginx, static body", times: 0.4 },
    Goal { figure: CORE, ours: REST, theirs: "nginx, static body", times: 1.0 / 0.4 },
    Goal { figure: RATE, ours: GRPC, theirs: REST, times: 1.3 },
];

impl Goal {
    /// What it says, and whether it was reached.
    fn judged(&self, case: &Case) -> Option<(String, bool)> {
        let ratio = case.median(self.figure, self.ours)? / case.median(self.figure, self.theirs)?;
        let rate = self.figure == RATE;
        let wanted = if rate || self.times >= 1.0 { format!("{}x", self.times) } else { format!("1/{:.0}", 1.0 / self.times) };
        let word = if rate { "at least" } else { "at most" };
        let told = format!("{}, {}: {word} {wanted} of {}: {ratio:.3}x", self.ours, self.figure, self.theirs);
        Some((told, if rate { ratio >= self.times } else { ratio <= self.times }))
    }
}

/// One model, asked one way by everybody.
#[derive(Debug, Clone)]
pub struct Case {
    /// The model.
    pub model: &'static str,
    /// Rows of a request.
    pub rows: usize,
    /// Requests in flight.
    pub connections: usize,
    /// Figure -> contender -> values.
    pub measured: Measured,
    /// Who was measured, in order.
    pub contenders: Vec<&'static str>,
}

impl Case {
    /// For people.
    pub fn name(&self) -> String {
        let s = |count: usize| if count == 1 { "" } else { "s" };
        let (rows, connections) = (self.rows, self.connections);
        format!("{}, {rows} row{} a request, {connections} connection{}", self.model, s(rows), s(connections))
    }
    fn median(&self, figure: &str, who: &str) -> Option<f64> {
        self.measured.get(figure)?.get(who).map(Series::median)
    }
    fn goals(&self) -> Vec<(String, bool)> {
        if self.connections == 1 { Vec::new() } else { GOALS.iter().filter_map(|goal| goal.judged(self)).collect() }
    }
    /// A row for each: who, requests a second with their range, p50, p99, core, ours in proportion.
    fn rows(&self) -> Vec<[String; 7]> {
        let number = |figure: &str, who: &str| self.median(figure, who).map_or_else(|| "-".to_owned(), shown);
        let row = |who: &&'static str| {
            let (low, high) = self.measured.get(RATE).and_then(|by| by.get(*who)).map_or((f64::NAN, f64::NAN), Series::range);
            let ratio =
                self.median(RATE, REST).zip(self.median(RATE, who)).map_or_else(|| "-".to_owned(), |(ours, theirs)| shown(ours / theirs));
            let range = format!("{}-{}", shown(low), shown(high));
            [(*who).to_owned(), number(RATE, who), range, number(P50, who), number(P99, who), number(CORE, who), ratio]
        };
        self.contenders.iter().map(row).collect()
    }
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = format!(
            "\n{}\n{:<26} {:>9} {:>15} {:>9} {:>9} {:>9} {:>9}\n",
            self.name(),
            HEAD[0],
            HEAD[1],
            HEAD[2],
            HEAD[3],
            HEAD[4],
            HEAD[5],
            HEAD[6]
        );
        for [who, rate, range, p50, p99, core, ratio] in self.rows() {
            text += &format!("{who:<26} {rate:>9} {range:>15} {p50:>9} {p99:>9} {core:>9} {ratio:>9}\n");
        }
        for (goal, reached) in self.goals() {
            text += &format!("{} {goal}\n", if reached { "reached" } else { "MISSED" });
        }
        text
    }
    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("## {}\n\n", self.name());
        text += &line(&HEAD.map(str::to_owned));
        text += &line(&HEAD.map(|_| "---".to_owned()));
        self.rows().iter().for_each(|row| text += &line(row));
        for (goal, reached) in self.goals() {
            text += &format!("\n- {} {goal}", if reached { "reached" } else { "**MISSED**" });
        }
        text + "\n\n"
    }
    fn json(&self) -> Value {
        let by = |series: &std::collections::BTreeMap<String, Series>| -> Map<String, Value> {
            series.iter().map(|(who, s)| (who.clone(), json!({ "unit": s.unit, "median": s.median(), "values": s.values }))).collect()
        };
        let figures: Map<String, Value> = self.measured.iter().map(|(figure, series)| (figure.clone(), by(series).into())).collect();
        let goals: Vec<Value> = self.goals().into_iter().map(|(goal, reached)| json!({ "goal": goal, "reached": reached })).collect();
        json!({ "model": self.model, "rows": self.rows, "connections": self.connections, "figures": figures, "goals": goals })
    }
}

const HEAD: [&str; 7] = ["who", "req/s", "range", "p50 us", "p99 us", "core us", "REST is"];

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The cases.
    pub cases: Vec<Case>,
    /// Machine, versions, commands.
    pub facts: Vec<(String, String)>,
    /// What was left out, and why.
    pub missing: Vec<String>,
}

impl Report {
    /// What is said at the end; the cases were printed as they came.
    pub fn text(&self) -> String {
        let goals: Vec<(String, bool)> = self.cases.iter().flat_map(Case::goals).collect();
        let reached = goals.iter().filter(|(_, reached)| *reached).count();
        let mut text = format!("\n{reached} of {} goals reached\n", goals.len());
        self.missing.iter().for_each(|missing| text += &format!("left out: {missing}\n"));
        text
    }

    /// For a page.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Serving, side by side\n\n");
        text += "Medians over the rounds; the first round is thrown away. Servers on one core, clients on another, measured in turn. \
                 `core us` is what a request takes of the server's core; `REST is` says how many times as many requests a second our V2 REST answers.\n\n";
        self.cases.iter().for_each(|case| text += &case.markdown());
        self.missing.iter().for_each(|missing| text += &format!("Left out: {missing}\n\n"));
        text += "## Machine, versions, commands\n\n";
        self.facts.iter().for_each(|(name, value)| text += &format!("- {name}: `{value}`\n"));
        text
    }

    /// For tools.
    pub fn json(&self) -> Value {
        let facts: Map<String, Value> = self.facts.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect();
        json!({ "bench": "serve", "cases": self.cases.iter().map(Case::json).collect::<Vec<_>>(), "facts": facts, "left_out": self.missing })
    }
}

fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn goals_are_judged_in_both_directions() {
        let by = |values: &[(&str, f64)]| -> BTreeMap<String, Series> {
            values.iter().map(|(who, value)| ((*who).to_owned(), Series { unit: String::new(), values: vec![*value] })).collect()
        };
        let case = Case {
            model: "trees",
            rows: 1,
            connections: 8,
            measured: Measured::from([
                (
                    RATE.to_owned(),
                    by(&[(REST, 50_000.0), (GRPC, 60_000.0), ("FastAPI + ONNX Runtime", 1_000.0), ("nginx, static body", 100_000.0)]),
                ),
                (P99.to_owned(), by(&[(REST, 200.0), ("FastAPI + ONNX Runtime", 7_000.0)])),
                (CORE.to_owned(), by(&[(REST, 20.0), ("nginx, static body", 5.0)])),
            ]),
            contenders: vec![REST, GRPC, "FastAPI + ONNX Runtime", "nginx, static body"],
        };
        let told = case.text();
        assert!(told.contains("reached Gristmill V2 REST, requests: at least 25x of FastAPI + ONNX Runtime: 50.000x"), "{told}");
        assert!(told.contains("MISSED Gristmill V2 REST, p99: at most 1/40 of FastAPI + ONNX Runtime: 0.029x"), "{told}");
        assert!(told.contains("MISSED Gristmill V2 REST, core: at most 2.5x of nginx, static body: 4.000x"), "{told}");
        assert!(told.contains("MISSED Gristmill V2 gRPC, requests: at least 1.3x"), "{told}");
        assert!(Case { connections: 1, ..case }.goals().is_empty());
    }
}
