//! The one engine configuration, for compiling and for running, and the thread that advances its epoch. Nothing else may
//! configure wasmtime: a compiled form made under another configuration would be refused.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel};

/// How often the epoch advances: a guest that computes gives its thread back about this often.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Bytes of stack a guest may use; deeper recursion traps.
const WASM_STACK: usize = 512 << 10;

/// Bytes of the stack that a guest and the host functions it calls run on. Well above [`WASM_STACK`]: host functions
/// need room below the deepest guest frame.
const FIBER_STACK: usize = 2 << 20;

/// An engine with its ticker, which ends with the last clone of the engine.
pub(super) fn start() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // Pooling would reserve terabytes of address space, which small hosts and CI machines refuse; instances are
        // made once a step, where 30 microseconds more do not show.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand);
    let engine = Engine::new(&config)?;
    let weak = engine.weak();
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH_TICK);
        }
    })?;
    Ok(engine)
}

/// Sixteen hex digits that differ whenever compiled forms are not interchangeable: wasmtime's version, the machine, the
/// configuration.
pub(super) fn compatibility(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
