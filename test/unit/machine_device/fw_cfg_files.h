// Reads files of fw_cfg through the ports, as firmware does.
#pragma once

#include <catch2/catch.hpp>

#include "machine/device/fw_cfg.h"

namespace vmhost::machine::test {

inline std::vector<std::uint8_t> file_of(FwCfg& fw_cfg, std::string_view wanted) {
    auto select = [&](std::uint16_t selector) {
        std::uint8_t raw[2];
        store_le(MutableBytes(raw), selector);
        fw_cfg.write(0, raw);
    };
    auto take = [&](std::size_t count) {
        std::vector<std::uint8_t> bytes(count);
        for (auto& byte : bytes)
            fw_cfg.read(1, MutableBytes(&byte, 1));
        return bytes;
    };
    select(0x19);
    auto files = load_be<std::uint32_t>(take(4));
    for (std::uint32_t i = 0; i < files; ++i) {
        auto entry = take(64);
        auto name = as_text(Bytes(entry).subspan(8));
        if (name.substr(0, name.find('\0')) != wanted)
            continue;
        select(load_be<std::uint16_t>(Bytes(entry).subspan(4)));
        return take(load_be<std::uint32_t>(entry));
    }
    FAIL("no file " << wanted);
    return {};
}

} // namespace vmhost::machine::test
