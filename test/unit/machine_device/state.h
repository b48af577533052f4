// Saving and loading one part of a machine, for tests.
#pragma once

#include <catch2/catch.hpp>

#include "machine/snapshot/state_archive.h"

namespace vmhost::machine {

struct Saved {
    std::vector<std::uint8_t> payload;
    std::uint16_t version = 1;
};

template <class Part>
Saved save(Part& part) {
    StateArchive archive;
    part.state(archive);
    auto finished = archive.finish();
    INFO((finished ? "" : finished.error().text()));
    REQUIRE(finished.has_value());
    return {archive.take(), archive.version()};
}

template <class Part>
Result<void> load(Part& part, const Saved& saved) {
    StateArchive archive(saved.payload, saved.version);
    part.state(archive);
    return archive.finish();
}

// Why it is refused; empty when it is not.
template <class Part>
std::string refusal(Part& part, const Saved& saved) {
    auto loaded = load(part, saved);
    return loaded ? std::string() : loaded.error().text();
}

// Each prefix, a byte too many and an unknown version are refused, and what was refused can be
// destroyed. make() gives a holder whose part() is a fresh device.
template <class Make>
void check_refusals(const Saved& saved, Make make) {
    for (std::size_t size = 0; size < saved.payload.size(); ++size) {
        auto cut = saved;
        cut.payload.resize(size);
        auto fresh = make();
        INFO(size);
        CHECK_FALSE(load(fresh->part(), cut).has_value());
    }
    auto longer = saved;
    longer.payload.push_back(0);
    CHECK(refusal(make()->part(), longer) == "1 bytes are left over");
    auto newer = saved;
    newer.version = 99;
    CHECK_FALSE(load(make()->part(), newer).has_value());
    auto older = saved;
    older.version = 0;
    CHECK_FALSE(load(make()->part(), older).has_value());
}

// Whatever single byte is changed to whatever: loaded or refused, never a crash; the sanitizers
// are the judge. use() then works the device.
template <class Make, class Use>
void flip_every_byte(const Saved& saved, Make make, Use use) {
    for (std::size_t at = 0; at < saved.payload.size(); ++at)
        for (unsigned value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
            auto changed = saved;
            changed.payload[at] = static_cast<std::uint8_t>(value);
            auto fresh = make();
            if (load(fresh->part(), changed))
                use(*fresh);
        }
}

} // namespace vmhost::machine
