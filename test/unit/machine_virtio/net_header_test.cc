// What a guest says of its frames, against the rules of 5.1.6.2.1.
#include <catch2/catch.hpp>

#include <random>

#include "machine/virtio/net_header.h"

using namespace vmhost;
using namespace vmhost::machine::virtio;

namespace {

constexpr std::uint64_t all = net_csum | net_host_tso4 | net_host_tso6 | net_host_ecn;
constexpr std::uint8_t tcp4 = 1, udp = 3, tcp6 = 4, ecn = 0x80;

struct Said {
    std::uint8_t flags = 1, type = 0;
    std::uint16_t header_bytes = 0, segment = 0, start = 34, offset = 16;
    std::vector<std::uint8_t> bytes() const {
        ByteWriter raw;
        raw.le(flags);
        raw.le(type);
        raw.le(header_bytes);
        raw.le(segment);
        raw.le(start);
        raw.le(offset);
        raw.le<std::uint16_t>(0);
        return raw.take();
    }
};

// Ethernet (with VLAN tags), IP and TCP headers of a frame whose payload does not matter.
std::vector<std::uint8_t> tcp_frame(bool version_6, unsigned tags = 0, unsigned words = 5) {
    ByteWriter raw;
    raw.zeros(12);
    for (unsigned i = 0; i < tags; ++i) {
        raw.be<std::uint16_t>(i == 0 && tags == 2 ? 0x88a8 : 0x8100);
        raw.be<std::uint16_t>(7);
    }
    raw.be<std::uint16_t>(version_6 ? 0x86dd : 0x0800);
    auto network = raw.size();
    raw.zeros(version_6 ? 40 : 20);
    auto tcp = raw.size();
    raw.zeros(200);
    auto& bytes = raw.buffer();
    bytes[network] = version_6 ? 0x60 : 0x45;
    bytes[network + (version_6 ? 6 : 9)] = 6;
    bytes[tcp + 12] = static_cast<std::uint8_t>(words << 4);
    return raw.take();
}

auto ask(const Said& said, Bytes start = {}, std::uint64_t frame_bytes = 1514,
         std::uint64_t features = all) {
    return header_for_kernel(said.bytes(), features, start, frame_bytes);
}

} // namespace

TEST_CASE("net header: nothing said, nothing asked of the kernel") {
    std::array<std::uint8_t, 12> none{};
    CHECK(ask({.flags = 0, .start = 0, .offset = 0}) == none);
    // Flags of the receiving side, and fields without their flag.
    CHECK(ask({.flags = 6, .header_bytes = 9, .segment = 9, .start = 0xffff, .offset = 0xffff}) ==
          none);
    // Nothing was negotiated: all of it is noise.
    CHECK(ask({.flags = 0xff, .type = 0xff, .start = 0xffff}, {}, 60, 0) == none);
}

TEST_CASE("net header: a checksum lies inside the frame, behind its Ethernet header") {
    auto good = ask({.start = 34, .offset = 6});
    REQUIRE(good);
    CHECK((*good)[0] == 1);
    CHECK(load_le<std::uint16_t>(Bytes(*good).subspan(6)) == 34);
    CHECK(load_le<std::uint16_t>(Bytes(*good).subspan(8)) == 6);
    CHECK(load_le<std::uint32_t>(Bytes(*good).subspan(2)) == 0);
    CHECK(ask({.start = 14, .offset = 0}, {}, 16));
    CHECK_FALSE(ask({.start = 14, .offset = 1}, {}, 16));
    CHECK_FALSE(ask({.start = 15, .offset = 0}, {}, 16));
    CHECK_FALSE(ask({.start = 13, .offset = 0}));
    CHECK(ask({.start = 1500, .offset = 12}));
    CHECK_FALSE(ask({.start = 1500, .offset = 13}));
    CHECK_FALSE(ask({.start = 0xffff, .offset = 0xffff}));
    CHECK_FALSE(ask({.start = 0xffff, .offset = 0xffff}, {}, 65550));
}

TEST_CASE("net header: TCP segmentation as a guest asks for it") {
    for (bool version_6 : {false, true})
        for (unsigned tags : {0U, 1U, 2U})
            for (std::uint8_t more : {std::uint8_t{0}, ecn}) {
                auto start = tcp_frame(version_6, tags, 8);
                auto tcp = static_cast<std::uint16_t>(14 + 4 * tags + (version_6 ? 40 : 20));
                Said said{.type = static_cast<std::uint8_t>((version_6 ? tcp6 : tcp4) | more),
                          .header_bytes = 1, // wrong, and not believed
                          .segment = 1448,
                          .start = tcp};
                auto made = ask(said, start, 60'000);
                REQUIRE(made);
                CHECK((*made)[1] == said.type);
                CHECK(load_le<std::uint16_t>(Bytes(*made).subspan(2)) == tcp + 32);
                CHECK(load_le<std::uint16_t>(Bytes(*made).subspan(4)) == 1448);
            }
}

TEST_CASE("net header: segmentation that does not fit its frame is refused") {
    auto start = tcp_frame(false);
    const Said good{.type = tcp4, .segment = 1448};
    REQUIRE(ask(good, start));
    auto refused = [&](auto change, std::uint64_t features = all) {
        Said said = good;
        change(said);
        CHECK_FALSE(ask(said, start, 1514, features));
    };
    refused([](Said& said) { said.flags = 0; });
    refused([](Said& said) { said.type = udp; });
    refused([](Said& said) { said.type = 2; });
    refused([](Said& said) { said.type = 5; });
    refused([](Said& said) { said.type = ecn; });
    refused([](Said& said) { said.type = 0xff; });
    refused([](Said& said) { said.type = tcp6; }); // it is version 4
    refused([](Said& said) { said.segment = 0; });
    refused([](Said& said) { said.segment = limits::min_segment_bytes - 1; });
    refused([](Said& said) { said.start = 33; });
    refused([](Said& said) { said.start = 38; });
    refused([](Said& said) { said.offset = 6; });
    refused([](Said&) {}, net_csum);
    refused([](Said&) {}, net_csum | net_host_tso6);
    refused([](Said& said) { said.type = tcp4 | ecn; }, net_csum | net_host_tso4);
    // The frame ends before the data begin.
    CHECK_FALSE(ask(good, start, 54));
    CHECK(ask(good, start, 55));
    auto broken = [&](std::size_t at, std::uint8_t value) {
        auto bytes = start;
        bytes[at] = value;
        CHECK_FALSE(ask(good, bytes));
    };
    broken(12, 0x88);      // not IP
    broken(14, 0x46);      // options: TCP begins later
    broken(14, 0x44);      // no header is so short
    broken(14, 0x65);      // another version
    broken(14 + 9, 17);    // UDP
    broken(34 + 12, 0x40); // a TCP header of 16 bytes
    for (std::size_t cut = 0; cut < 54; ++cut)
        CHECK_FALSE(ask(good, Bytes(start).first(cut)));
    auto three_tags = tcp_frame(false, 3);
    CHECK_FALSE(ask({.type = tcp4, .segment = 1448, .start = 46}, three_tags));
}

TEST_CASE("net header: whatever is said, what the kernel is given is sound") {
    std::minstd_rand random(1);
    unsigned accepted = 0;
    for (unsigned i = 0; i < 200'000; ++i) {
        auto start = tcp_frame(random() % 2, random() % 3, random() % 16);
        start.resize(random() % (start.size() + 1));
        auto frame_bytes = std::max<std::uint64_t>(start.size(), 14 + random() % 3000);
        Said said{.flags = static_cast<std::uint8_t>(random() % 2 ? 1 : random()),
                  .type = static_cast<std::uint8_t>(random() % 8 ? random() % 5 : random()),
                  .header_bytes = static_cast<std::uint16_t>(random()),
                  .segment = static_cast<std::uint16_t>(random()),
                  .start = static_cast<std::uint16_t>(random() % 4 ? 34 + random() % 40 : random()),
                  .offset = static_cast<std::uint16_t>(random() % 4 ? 16 : random())};
        auto made = ask(said, start, frame_bytes);
        if (!made)
            continue;
        ByteReader reader{Bytes(*made)};
        auto flags = reader.le<std::uint8_t>();
        auto type = reader.le<std::uint8_t>();
        auto header_bytes = reader.le<std::uint16_t>(), segment = reader.le<std::uint16_t>();
        auto at = reader.le<std::uint16_t>(), offset = reader.le<std::uint16_t>();
        REQUIRE(flags <= 1);
        REQUIRE((flags == 1 || (at == 0 && offset == 0 && type == 0)));
        REQUIRE(at + offset + (flags ? 2U : 0U) <= frame_bytes);
        REQUIRE((type == 0) == (segment == 0));
        REQUIRE((type == 0 || header_bytes < frame_bytes));
        REQUIRE(reader.le<std::uint16_t>() == 0);
        accepted += type != 0;
    }
    CHECK(accepted > 100);
}
