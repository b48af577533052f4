// The stream's framing: what comes out is what went in, and nothing else is accepted.
#include <catch2/catch.hpp>

#include <atomic>
#include <fcntl.h>
#include <thread>
#include <unistd.h>

#include "machine/snapshot/memory_pages.h"
#include "machine/snapshot/snapshot.h"
#include "machine/snapshot/state_archive.h"
#include "machine/snapshot/stream.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

std::vector<std::uint8_t> stream_of(const std::vector<Section>& sections) {
    std::vector<std::uint8_t> bytes;
    StreamWriter writer([&](Bytes more) -> Result<void> {
        bytes.insert(bytes.end(), more.begin(), more.end());
        return {};
    });
    REQUIRE(writer.begin().has_value());
    for (const auto& section : sections)
        REQUIRE(writer.put(section.name, section.version, section.payload).has_value());
    REQUIRE(writer.end().has_value());
    CHECK(writer.bytes() == bytes.size());
    return bytes;
}

Result<std::vector<Section>> read_all(Bytes bytes) {
    StreamReader reader(source_from(bytes));
    TRY(reader.begin());
    std::vector<Section> sections;
    for (;;) {
        auto section = TRY(reader.next());
        if (section.name.name == end_section)
            return sections;
        sections.push_back(std::move(section));
    }
}

std::string refusal_of(Bytes bytes) {
    auto read = read_all(bytes);
    return read ? "" : read.error().text();
}

const std::vector<Section> some = {
    {{"first"}, 3, {1, 2, 3}},
    {{"pci", 7}, 1, {}},
    {{"sixteen-letters-"}, 65535, std::vector<std::uint8_t>(999, 7)}};

} // namespace

TEST_CASE("stream: sections come back in order") {
    auto back = read_all(stream_of(some));
    REQUIRE(back.has_value());
    REQUIRE(back->size() == some.size());
    for (std::size_t i = 0; i < some.size(); ++i) {
        CHECK((*back)[i].name == some[i].name);
        CHECK((*back)[i].version == some[i].version);
        CHECK((*back)[i].payload == some[i].payload);
    }
}

TEST_CASE("stream: the layout on the wire") {
    auto bytes = stream_of({{{"ab", 0x0102}, 0x0304, {9}}});
    REQUIRE(bytes.size() == 16 + 33 + 32 + 24);
    CHECK(as_text(Bytes(bytes).first(8)) == "VMHSTATE");
    CHECK(load_le<std::uint32_t>(Bytes(bytes).subspan(8)) == 1);
    CHECK(load_le<std::uint32_t>(Bytes(bytes).subspan(12)) == crc32_of(Bytes(bytes).first(12)));
    auto header = Bytes(bytes).subspan(16);
    CHECK(as_text(header.first(3)) == std::string_view("ab\0", 3));
    CHECK(load_le<std::uint16_t>(header.subspan(16)) == 0x0102);
    CHECK(load_le<std::uint16_t>(header.subspan(18)) == 0x0304);
    CHECK(load_le<std::uint32_t>(header.subspan(20)) == 1);
    CHECK(crc32_of(as_bytes("123456789")) == 0xcbf43926); // the CRC's well-known check value
}

TEST_CASE("stream: cut anywhere it is refused") {
    auto bytes = stream_of(some);
    for (std::size_t size = 0; size < bytes.size(); ++size)
        CHECK(refusal_of(Bytes(bytes).first(size)) == "the state is cut short");
}

TEST_CASE("stream: every flipped bit is found") {
    auto bytes = stream_of(some);
    for (std::size_t at = 0; at < bytes.size(); ++at)
        for (unsigned bit = 0; bit < 8; ++bit) {
            auto flipped = bytes;
            flipped[at] ^= static_cast<std::uint8_t>(1U << bit);
            INFO(at << " bit " << bit);
            CHECK(refusal_of(flipped) != "");
        }
}

TEST_CASE("stream: sections that are lost, doubled or swapped are found") {
    auto bytes = stream_of({{{"one"}, 1, {1}}, {{"two"}, 1, {2}}});
    auto piece = [&](std::size_t from, std::size_t count) {
        return std::vector(bytes.begin() + static_cast<long>(from),
                           bytes.begin() + static_cast<long>(from + count));
    };
    auto join = [](std::vector<std::vector<std::uint8_t>> pieces) {
        std::vector<std::uint8_t> all;
        for (const auto& one : pieces)
            all.insert(all.end(), one.begin(), one.end());
        return all;
    };
    auto head = piece(0, 16), one = piece(16, 33), two = piece(49, 33), end = piece(82, 56);
    CHECK(refusal_of(join({head, one, two, end})) == "");
    for (const auto& wrong : {join({head, one, end}), join({head, two, end}), join({head, end}),
                              join({head, two, one, end}), join({head, one, one, end}),
                              join({head, one, one, two, end})})
        CHECK(refusal_of(wrong) == "the state's end does not belong to what came before it");
}

TEST_CASE("stream: other files and other formats") {
    auto bytes = stream_of(some);
    std::vector<std::uint8_t> zeros(4096);
    CHECK(refusal_of(zeros) == "this is not the state of a vmhost machine");
    auto newer = bytes;
    newer[8] = 2;
    store_le(MutableBytes(newer).subspan(12), crc32_of(Bytes(newer).first(12)));
    CHECK(refusal_of(newer) == "the state has format 2, only format 1 is known here");
}

TEST_CASE("stream: a length beyond the limit is refused before it is read") {
    auto bytes = stream_of({{{"big"}, 1, {1}}});
    auto header = MutableBytes(bytes).subspan(16, 32);
    store_le(header.subspan(20), static_cast<std::uint32_t>(max_state_section_bytes + 1));
    store_le(header.subspan(28), crc32_of(Bytes(header).first(28)));
    CHECK(refusal_of(bytes).find("are more than the") != std::string::npos);
    StreamWriter writer([](Bytes) -> Result<void> { return {}; });
    std::vector<std::uint8_t> large(max_state_section_bytes + 1);
    CHECK_FALSE(writer.put({"big"}, 1, large).has_value());
}

TEST_CASE("stream: a name is letters, digits and dashes") {
    auto bytes = stream_of({{{"ab"}, 1, {}}});
    for (auto [at, value] : {std::pair{16, '\n'}, {16, '\0'}, {19, 'x'}, {17, 'A'}}) {
        auto wrong = bytes;
        wrong[static_cast<std::size_t>(at)] = static_cast<std::uint8_t>(value);
        store_le(MutableBytes(wrong).subspan(16 + 28), crc32_of(Bytes(wrong).subspan(16, 28)));
        CHECK(refusal_of(wrong).find("without a name") != std::string::npos);
    }
}

TEST_CASE("stream: through a pipe, and given up when nobody reads") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    Fd reading(ends[0]), writing(ends[1]);
    std::atomic<bool> cancelled{false};
    std::vector<std::uint8_t> large(3 << 20);
    for (std::size_t i = 0; i < large.size(); ++i)
        large[i] = static_cast<std::uint8_t>(i * 7 >> 3);
    std::thread sender([&] {
        StreamWriter writer(sink_to(writing.get(), cancelled));
        CHECK(writer.begin().has_value());
        CHECK(writer.put({"large"}, 1, large).has_value());
        CHECK(writer.end().has_value());
    });
    StreamReader reader(source_from(reading.get()));
    CHECK(reader.begin().has_value());
    auto section = reader.next();
    sender.join();
    REQUIRE(section.has_value());
    CHECK(section->payload == large);

    std::thread blocked([&] {
        StreamWriter writer(sink_to(writing.get(), cancelled));
        auto put = writer.put({"large"}, 1, large);
        REQUIRE_FALSE(put.has_value());
        CHECK(put.error().text() == "cancelled");
    });
    cancelled = true;
    blocked.join();
}

TEST_CASE("archive: values of every kind") {
    struct Part {
        bool flag = true;
        std::uint8_t byte = 1;
        std::int64_t negative = -5;
        std::array<std::uint16_t, 3> words{1, 2, 3};
        std::vector<std::uint32_t> list{7, 8};
        std::vector<std::uint8_t> blob{1, 2, 3};
        std::string text = "text";
        Mac mac{{1, 2, 3, 4, 5, 6}};
        void state(StateArchive& archive) {
            archive(flag, byte, negative, words, mac);
            archive.list(list, 4, "list");
            archive.bytes(blob, 4, "blob");
            archive.text(text, 8, "text");
        }
        bool operator==(const Part&) const = default;
    };
    Part before;
    StateArchive saving;
    before.state(saving);
    REQUIRE(saving.finish().has_value());
    auto bytes = saving.take();
    Part after{false, 0, 0, {}, {}, {}, "", {}};
    StateArchive loading(bytes, 1);
    after.state(loading);
    REQUIRE(loading.finish().has_value());
    CHECK(after == before);

    before.text = "much too long";
    StateArchive refused;
    before.state(refused);
    CHECK(refused.finish().error().text() == "text: 13 are more than the 8 that can be kept");
}

TEST_CASE("archive: a count beyond what follows is not believed") {
    for (std::uint32_t count : {5U, 200U, 0xffffffffU}) {
        ByteWriter raw;
        raw.le(count);
        raw.zeros(16);
        StateArchive archive(raw.buffer(), 1);
        std::vector<std::uint32_t> list;
        archive.list(list, 100, "list");
        CHECK(list.size() <= 5);
        CHECK_FALSE(archive.finish().has_value());
    }
}

namespace {

constexpr std::uint64_t memory_bytes = 3 * MiB + 12 * KiB;

void add_memory(GuestMemory& memory) {
    REQUIRE(memory.add(0, memory_bytes, true).has_value());
    REQUIRE(memory.add(0x10000000, 64 * KiB, false).has_value());
}

} // namespace

TEST_CASE("memory: what is not zero comes back, and nothing else is written") {
    GuestMemory before;
    add_memory(before);
    before.write_le<std::uint64_t>(0x1008, 0x1122334455667788);
    before.write_le<std::uint8_t>(MiB - 1, 9);
    before.write_le<std::uint8_t>(memory_bytes - 1, 10);
    before.write_le<std::uint32_t>(0x10000000 + 60 * KiB, 11);
    std::vector<std::uint8_t> bytes;
    StreamWriter writer([&](Bytes more) -> Result<void> {
        bytes.insert(bytes.end(), more.begin(), more.end());
        return {};
    });
    std::atomic<bool> cancelled{false};
    std::uint64_t done = 0, all = 0;
    auto written = write_state({}, before.ranges(), writer, cancelled,
                               [&](std::uint64_t now, std::uint64_t of) {
                                   done = std::max(done, now);
                                   all = of;
                               });
    REQUIRE(written.has_value());
    CHECK(done == memory_bytes + 64 * KiB);
    CHECK(all == done);
    CHECK(bytes.size() < 1000); // four pages with a few bytes in each

    GuestMemory after;
    add_memory(after);
    StreamReader reader(source_from(Bytes(bytes)));
    REQUIRE(reader.begin().has_value());
    REQUIRE(read_memory(reader, after).has_value());
    for (const auto& range : before.ranges()) {
        auto one = *before.slice(range.start, range.size_bytes);
        auto two = *after.slice(range.start, range.size_bytes);
        CHECK(std::ranges::equal(one, two));
    }
    GuestMemory small;
    REQUIRE(small.add(0, MiB, true).has_value());
    StreamReader again(source_from(Bytes(bytes)));
    REQUIRE(again.begin().has_value());
    auto refused = read_memory(again, small);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().text().find("outside of the machine's memory") != std::string::npos);
}

TEST_CASE("memory: hostile pieces") {
    GuestMemory memory;
    add_memory(memory);
    std::vector<std::uint8_t> page(8192, 0x5a);
    PageWriter writer;
    auto good = *writer.encode(0x3000, page);
    std::vector<std::uint8_t> piece(good.begin(), good.end());
    PageReader reader;
    REQUIRE(reader.decode(piece, memory).has_value());
    CHECK(memory.read_le<std::uint8_t>(0x4fff) == 0x5a);
    auto refused = [&](auto change) {
        auto changed = piece;
        change(changed);
        CHECK_FALSE(reader.decode(changed, memory).has_value());
    };
    refused([](auto& it) { it[0] = 1; });                                 // not a page
    refused([](auto& it) { store_le<std::uint64_t>(it, memory_bytes); }); // outside
    refused([](auto& it) { store_le<std::uint64_t>(it, ~0ULL << 12); });  // wraps
    refused([](auto& it) { it[8] = 0; });                                 // no pages
    refused([](auto& it) { it[8] = 1; });                                 // too few for the bits
    refused([](auto& it) { store_le<std::uint32_t>(MutableBytes(it).subspan(8), 257); });
    refused([](auto& it) { it[12] = 1; });
    refused([](auto& it) { it[16] = 1; });    // a page is left over
    refused([](auto& it) { it[16] = 7; });    // a page is missing
    refused([](auto& it) { it.resize(48); }); // no frame
    refused([](auto& it) { it.pop_back(); });
    refused([](auto& it) { it.push_back(0); });
    refused([](auto& it) { it.insert(it.end(), it.begin() + 48, it.end()); }); // two frames
    for (std::size_t at = 48; at < piece.size(); ++at)
        for (unsigned bit = 0; bit < 8; ++bit) {
            auto changed = piece;
            changed[at] ^= static_cast<std::uint8_t>(1U << bit);
            (void)reader.decode(changed, memory); // refused or some content: never a crash
        }
}
