#include "machine/boot/firmware.h"

// third_party/firmware.S.in
extern "C" {
[[gnu::visibility("hidden")]] extern const std::uint8_t vmhost_seabios_start[];
[[gnu::visibility("hidden")]] extern const std::uint8_t vmhost_seabios_end[];
[[gnu::visibility("hidden")]] extern const std::uint8_t vmhost_ipxe_start[];
[[gnu::visibility("hidden")]] extern const std::uint8_t vmhost_ipxe_end[];
}

namespace vmhost::machine::boot {

Bytes seabios() {
    return {vmhost_seabios_start, vmhost_seabios_end};
}

Result<std::vector<std::uint8_t>> virtio_net_rom(std::uint16_t vendor, std::uint16_t device) {
    return rom_for(Bytes(vmhost_ipxe_start, vmhost_ipxe_end), vendor, device);
}

Result<std::vector<std::uint8_t>> rom_for(Bytes image, std::uint16_t vendor, std::uint16_t device) {
    std::vector<std::uint8_t> rom(image.begin(), image.end());
    MutableBytes bytes(rom);
    const std::size_t size = rom.size() > 2 ? rom[2] * std::size_t{512} : 0;
    const std::size_t data = rom.size() >= 0x1a ? load_le<std::uint16_t>(bytes.subspan(0x18)) : 0;
    if (size == 0 || size > rom.size() || load_le<std::uint16_t>(bytes) != 0xaa55 ||
        !range_fits(data, 8, size) || load_be<std::uint32_t>(bytes.subspan(data)) != 0x50434952)
        return fail(ErrorKind::corrupt, "an expansion ROM of {} bytes has no PCI data structure",
                    rom.size());
    store_le(bytes.subspan(data + 4), vendor);
    store_le(bytes.subspan(data + 6), device);
    // The bytes of the image sum up to zero; the one behind the entry's jump is there for that.
    constexpr std::size_t checksum = 6;
    rom[checksum] = 0;
    unsigned sum = 0;
    for (auto byte : bytes.first(size))
        sum += byte;
    rom[checksum] = static_cast<std::uint8_t>(-sum);
    return rom;
}

} // namespace vmhost::machine::boot
