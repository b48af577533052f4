// The table loader's commands, executed the way firmware executes them.
#include "tables.h"

#include <map>

#include "../machine_device/fw_cfg_files.h"
#include "machine/layout.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::acpi;
using namespace vmhost::machine::acpi::test;
using vmhost::machine::test::file_of;

namespace {

struct Firmware {
    FwCfg& fw_cfg;
    GuestMemory& memory;
    struct Placed {
        Gpa at = 0;
        std::size_t size_bytes = 0;
    };
    std::map<std::string, Placed> files;
    Gpa next_low = 0xf6000, next_high = 7 * MiB;

    std::string name(ByteReader& reader) {
        std::string text(as_text(reader.bytes(56)));
        REQUIRE(text.find('\0') != std::string::npos);
        return text.substr(0, text.find('\0'));
    }
    void allocate(ByteReader& reader) {
        auto file = name(reader);
        auto alignment = reader.le<std::uint32_t>();
        auto zone = reader.le<std::uint8_t>();
        REQUIRE((zone == 1 || zone == 2));
        REQUIRE(std::has_single_bit(alignment));
        auto content = file_of(fw_cfg, file);
        auto& next = zone == 2 ? next_low : next_high;
        next = (next + alignment - 1) & ~Gpa{alignment - 1};
        REQUIRE(memory.write(next, content));
        files[file] = {next, content.size()};
        next += content.size() + 4; // nothing may lean on luck
    }
    void add_pointer(ByteReader& reader) {
        auto in = files.at(name(reader)), to = files.at(name(reader));
        auto at = reader.le<std::uint32_t>();
        auto size = reader.le<std::uint8_t>();
        REQUIRE((size == 4 || size == 8));
        REQUIRE(range_fits(at, size, in.size_bytes));
        auto value = *memory.read_le<std::uint32_t>(in.at + at);
        CHECK(value < to.size_bytes);
        if (size == 8) {
            CHECK(*memory.read_le<std::uint64_t>(in.at + at) == value);
            memory.write_le<std::uint64_t>(in.at + at, value + to.at);
        } else {
            memory.write_le<std::uint32_t>(in.at + at, static_cast<std::uint32_t>(value + to.at));
        }
    }
    void add_checksum(ByteReader& reader) {
        auto in = files.at(name(reader));
        auto at = reader.le<std::uint32_t>(), start = reader.le<std::uint32_t>(),
             length = reader.le<std::uint32_t>();
        REQUIRE(range_fits(start, length, in.size_bytes));
        REQUIRE((at >= start && at < start + length));
        auto bytes = bytes_at(memory, in.at + start, length);
        auto sum = std::accumulate(bytes.begin(), bytes.end(), 0U);
        memory.write_le(in.at + at, static_cast<std::uint8_t>(bytes[at - start] - sum));
    }
    void execute() {
        auto commands = file_of(fw_cfg, "etc/table-loader");
        REQUIRE(commands.size() % 128 == 0);
        for (std::size_t i = 0; i < commands.size(); i += 128) {
            ByteReader reader(Bytes(commands).subspan(i, 128));
            switch (reader.le<std::uint32_t>()) {
            case 1:
                allocate(reader);
                break;
            case 2:
                add_pointer(reader);
                break;
            case 3:
                add_checksum(reader);
                break;
            default:
                FAIL("unknown command " << i / 128);
            }
            auto rest = reader.bytes(reader.remaining());
            CHECK(std::ranges::all_of(rest, [](auto byte) { return byte == 0; }));
        }
    }
};

} // namespace

TEST_CASE("firmware that executes the table loader has the tables of a direct boot") {
    const unsigned vcpus = GENERATE(1U, 5U, 64U);
    GuestMemory memory, direct_memory;
    REQUIRE(lay_out_memory(memory, 8 * MiB));
    REQUIRE(lay_out_memory(direct_memory, 8 * MiB));
    FwCfg fw_cfg(memory);
    add_firmware_files(fw_cfg, vcpus);
    Firmware firmware{fw_cfg, memory, {}};
    firmware.execute();
    auto root = firmware.files.at("etc/acpi/rsdp").at;
    CHECK(root < 1 * MiB);
    auto found = walk(memory, root);
    REQUIRE(install(direct_memory, vcpus));
    auto direct = walk(direct_memory, rsdp_address);
    CHECK(found.madt == direct.madt);
    CHECK(found.dsdt == direct.dsdt);
    CHECK(found.facs == direct.facs);
    // But for the addresses in it, the same.
    CHECK(Buffer(found.fadt.begin() + 44, found.fadt.begin() + 140) ==
          Buffer(direct.fadt.begin() + 44, direct.fadt.begin() + 140));
}
