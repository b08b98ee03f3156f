//! The machine that a run was made on: a result without it cannot be compared.

use serde::Serialize;

/// What of a machine decides how fast it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory in megabytes.
    pub memory_mb: u64,
    /// Kernel and its release.
    pub kernel: String,
    /// How the first CPU's frequency is chosen; empty where the kernel does not say, as in most
    /// virtual machines.
    pub governor: String,
}

impl Machine {
    /// This one. What cannot be read stays empty.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, names: &[&str]| {
            let line = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                names
                    .contains(&name.trim())
                    .then(|| value.trim().to_owned())
            });
            line.unwrap_or_default()
        };
        let processor = field(&read("/proc/cpuinfo"), &["model name", "Model", "CPU part"]);
        let memory = field(&read("/proc/meminfo"), &["MemTotal"]);
        let kilobytes = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        let sys = |name| read(&format!("/proc/sys/kernel/{name}")).trim().to_owned();
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            cpu: processor,
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mb: kilobytes / 1024,
            kernel: format!("{} {}", sys("ostype"), sys("osrelease")),
            governor: governor.trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let here = Machine::here();
        assert!(here.cpus > 0 && here.memory_mb > 100, "{here:?}");
        assert!(
            here.kernel.starts_with("Linux ") && !here.cpu.is_empty(),
            "{here:?}"
        );
    }
}
