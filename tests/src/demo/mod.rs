//! `cargo xtask demo`: a client, a balancer and backends in namespaces, the real agent, real traffic, and a story told
//! with the agent's own numbers. It fails when anything it shows is not true.

mod interrupt;
mod kept;
mod narrator;
mod screen;
mod stage;
mod story;
mod table;
mod traffic;

use anyhow::Result;

pub use interrupt::Interrupted;
pub use kept::end;

use interrupt::Interrupt;
use screen::Screen;
use stage::Stage;

/// First argument of the program when it is to be one of the demo's servers: `--serve-datagrams NAME PORT`.
pub const SERVE_DATAGRAMS: &str = "--serve-datagrams";

/// What happens to the scene after the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Everything is deleted.
    CleanUp,
    /// Everything stays; the demo prints how to enter and how to end it.
    Keep,
}

/// Plays the demo. Whatever way it ends, nothing is left behind unless it is to be kept.
pub fn run(afterwards: Afterwards) -> Result<()> {
    let interrupt = Interrupt::install()?;
    kept::claim()?;
    let mut screen = Screen::new();
    let stage = Stage::build(&mut screen, &interrupt)?;
    story::play(&stage, &mut screen, &interrupt)?;
    match afterwards {
        Afterwards::CleanUp => {
            kept::look_for_yourself(&stage, &mut screen)?;
            screen.line("")?;
            screen.line("Everything is cleaned up now; 'cargo xtask demo --keep' leaves it running to play with.")?;
        }
        Afterwards::Keep => {
            kept::instructions(&stage, &mut screen)?;
            stage.keep()?;
        }
    }
    Ok(())
}

/// Runs one of the demo's own servers in this process; the stage starts it in a backend's namespace.
pub fn serve_datagrams(name: &str, port: u16) -> Result<()> {
    crate::peers::DatagramServer::start_here(name, port)?.run()
}
