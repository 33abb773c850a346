//! Where the suite stands against what the machine can do.
//!
//! Every figure is a ratio of the suite to a bare limit that is measured in the same
//! run, round by round in turns (A B, B A), so that a machine that is busy for a while
//! slows both. `docs/speed.md` says what each figure means.

mod audience;
mod bare;
mod blaster;
mod caller;
mod carrier;
mod figures;
mod load;
mod machine;
mod measured;
mod pace;
mod plan;
mod process;
mod report;
mod rounds;
mod selects;

use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use crate::measured::{Measured, Mode};
use crate::plan::Plan;

/// How long a run may take before it is given up.
const BOUND: Duration = Duration::from_mins(15);

/// Measures the suite beside bare Postgres, Redis and tonic
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Fewer and shorter rounds: a first look
    #[arg(long)]
    quick: bool,
    /// Only these figures, as in S1,S8
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    only: Vec<String>,
    /// Only this mode
    #[arg(long, value_enum)]
    mode: Option<Mode>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves a bare stream: what fan-out costs at least
    Blaster(blaster::Arguments),
}

#[tokio::main]
async fn main() {
    let cli = Cli::parse();
    if let Some(Command::Blaster(arguments)) = cli.command {
        return blaster::serve(arguments).await;
    }
    let plan = Plan::new(cli.quick, cli.only);
    let began = Instant::now();
    let modes = Mode::ALL.into_iter().filter(|mode| cli.mode.is_none_or(|only| only == *mode));
    let measured = tokio::time::timeout(BOUND, measure(&plan, modes)).await;
    measured.unwrap_or_else(|_| panic!("it took longer than {BOUND:?}"));
    println!("\nIt took {:.0} s.", began.elapsed().as_secs_f64());
}

async fn measure(plan: &Plan, modes: impl Iterator<Item = Mode>) {
    machine::print().await;
    println!("{plan}");
    for mode in modes {
        println!("\n{}", mode.title());
        report::heading();
        let mut suite = Measured::start(mode).await;
        figures::all(plan, &mut suite).await;
        suite.finish().await;
    }
}
