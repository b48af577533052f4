// The list of boot arguments that an OpenBSD kernel finds at the address on its stack.
//
//   entry    i32 type, i32 size with these 12 bytes, i32 next (= size, unused), payload
//   0 MEMMAP     {u64 start, u64 size, u32 type} …, closed by a row of zeros
//   5 CONSDEV    com0 at 115200, so that the kernel talks on the serial line
//   7 BOOTMAC    6 bytes, padded to 8: that interface joins the group "netboot" and the
//                installer starts by itself
//   9 BOOTDUID   the disklabel identifier of the root disk
//   -1           the end
#include "machine/boot/loaders.h"

namespace vmhost::machine::boot {

namespace {

enum Type : std::int32_t { memmap = 0, consdev = 5, bootmac = 7, bootduid = 9, list_end = -1 };

void append(ByteWriter& list, std::int32_t type, Bytes payload) {
    constexpr std::size_t header_bytes = 12;
    auto size = static_cast<std::int32_t>(header_bytes + (payload.size() + 3) / 4 * 4);
    std::size_t end = list.size() + static_cast<std::size_t>(size);
    list.le(type);
    list.le(size);
    list.le(size);
    list.bytes(payload);
    list.pad_to(end);
}

std::vector<std::uint8_t> memory_rows(const std::vector<MapEntry>& map) {
    ByteWriter rows;
    for (const auto& entry : map) {
        rows.le(entry.start);
        rows.le(entry.size);
        rows.le(entry.type);
    }
    rows.zeros(20);
    return rows.take();
}

std::vector<std::uint8_t> serial_console() {
    ByteWriter out;
    out.le(std::uint32_t{0x800}); // makedev(8, 0): com0
    out.le(std::int32_t{115200});
    out.le(std::uint64_t{0x3f8});
    out.le(std::int32_t{0});  // frequency: the driver's own
    out.le(std::uint32_t{0}); // flags: port space
    out.le(std::int32_t{0});  // register width and shift
    out.le(std::int32_t{0});
    return out.take();
}

} // namespace

Result<std::vector<std::uint8_t>> openbsd_arguments(const std::vector<MapEntry>& map,
                                                    const Request& request) {
    ByteWriter list;
    append(list, memmap, memory_rows(map));
    append(list, consdev, serial_console());
    if (request.boot_mac)
        append(list, bootmac, request.boot_mac->octets);
    if (request.boot_duid)
        append(list, bootduid, *request.boot_duid);
    append(list, list_end, {});
    if (list.size() > limits::max_openbsd_boot_args_bytes)
        return fail(ErrorKind::limit, "the boot arguments have {} bytes, OpenBSD takes {}",
                    list.size(), limits::max_openbsd_boot_args_bytes);
    return list.take();
}

} // namespace vmhost::machine::boot
