//! Kernel modules, in an order that was made with the image: `/lib/modules/order`
//! has a line `BOARD FILE [OPTION=VALUE]...` for each, what it needs before it.
//! BOARD is a word of the device tree's `compatible`, or `*`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::system::finit_module;

/// The folder of the modules and of their order.
const FOLDER: &str = "/lib/modules";

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks `.ko.xz` by itself.
const COMPRESSED: i32 = 4;

/// One module to load.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModuleStep {
    file: String,
    options: String,
}

/// Loads what this board needs. What cannot be loaded is said and left: a board
/// without one of its devices is still a board.
pub fn load() {
    let compatible = std::fs::read("/proc/device-tree/compatible").unwrap_or_default();
    let compatible = String::from_utf8_lossy(&compatible);
    let order = std::fs::read_to_string(Path::new(FOLDER).join("order")).unwrap_or_default();
    let mut loaded = 0_usize;
    for step in steps(&order, &compatible) {
        match insert(&step) {
            Ok(()) => loaded = loaded.saturating_add(1),
            Err(error) => log::debug!("{}: {error}", step.file),
        }
    }
    let board: Vec<&str> = compatible
        .split('\0')
        .filter(|word| !word.is_empty())
        .collect();
    log::info!(
        "board {}; {loaded} modules",
        board.first().unwrap_or(&std::env::consts::ARCH)
    );
}

fn insert(step: &ModuleStep) -> io::Result<()> {
    let file = File::open(Path::new(FOLDER).join(&step.file))?;
    let options = CString::new(step.options.as_str())?;
    let flags = if step.file.ends_with(".ko") {
        0
    } else {
        COMPRESSED
    };
    match finit_module(&file, &options, flags) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What of the order is for the board, each file once.
fn steps(order: &str, compatible: &str) -> Vec<ModuleStep> {
    let mut steps: Vec<ModuleStep> = Vec::new();
    for line in order.lines() {
        let mut words = line.split_whitespace();
        let (Some(board), Some(file)) = (words.next(), words.next()) else {
            continue;
        };
        let ours = board == "*" || compatible.split('\0').any(|word| word == board);
        if ours && !steps.iter().any(|step| step.file == file) {
            steps.push(ModuleStep {
                file: file.into(),
                options: words.collect::<Vec<_>>().join(" "),
            });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_gets_what_is_for_all_and_what_is_for_it_in_order() {
        let order = "* fat.ko.xz\n* vfat.ko.xz\n\
                     brcm,bcm2837 smsc95xx.ko.xz\n\
                     brcm,bcm2712 macb.ko.xz\n\
                     linux,dummy-virt i6300esb.ko.xz heartbeat=15 nowayout=1\n\
                     linux,dummy-virt fat.ko.xz\n\nbroken\n";
        let files = |compatible: &str| -> Vec<String> {
            steps(order, compatible)
                .into_iter()
                .map(|step| step.file)
                .collect()
        };
        assert_eq!(files(""), ["fat.ko.xz", "vfat.ko.xz"]);
        assert_eq!(
            files("raspberrypi,3-model-b\0brcm,bcm2837\0"),
            ["fat.ko.xz", "vfat.ko.xz", "smsc95xx.ko.xz"]
        );
        let virt = steps(order, "linux,dummy-virt\0");
        assert_eq!(virt.last().unwrap().options, "heartbeat=15 nowayout=1");
        assert_eq!(virt.len(), 3);
    }
}
