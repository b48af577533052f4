// A small guest for every input: the loaders' writes are checked by the sanitizer, their
// results by the caller.
#pragma once

#include <cstdlib>

#include "machine/boot/boot.h"

namespace vmhost::machine::boot {

inline Result<Loaded> load_into_small_guest(const Request& request) {
    GuestMemory memory;
    // 18 MiB: amd64 kernels begin at 16 MiB.
    if (!memory.add(0, 0xa0000, true) || !memory.add(0xa0000, 0x60000, false) ||
        !memory.add(MiB, 17 * MiB, true))
        std::abort();
    // What is reserved but for firmware's copy stays untouched by kernels.
    auto reserved = memory.slice(0xa0000, 0x60000);
    if (!reserved)
        std::abort();
    auto loaded = load(memory, request);
    if (!loaded) {
        if (loaded.error().text().empty() || loaded.error().kind() == ErrorKind::internal)
            std::abort();
        return loaded;
    }
    if (loaded->kind == ImageKind::firmware)
        return loaded;
    for (auto byte : *reserved)
        if (byte != 0)
            std::abort();
    // The entry lies in RAM, and so does what the first registers point to.
    if (!memory.slice(loaded->cpu.rip, 1) || !memory.slice(loaded->cpu.gdt.base, 16) ||
        !memory.slice(loaded->cpu.rsp, 4))
        std::abort();
    return loaded;
}

} // namespace vmhost::machine::boot
