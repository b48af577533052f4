// Kernels that are right but for what the input spoils: ELF of both classes with segments,
// random segments, PVH notes and symbol sections, plain and gzip'd, and Linux images with a whole
// setup header. What mutations of a file seldom get right (tables that agree with each other)
// is built here, so that the loaders' later checks are met.
#include "../../unit/machine_boot/images.h"
#include "fuzz_guest.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::boot;

namespace {

// A number around what loaders compare with.
std::uint64_t address(ByteReader& input) {
    constexpr std::array<std::uint64_t, 12> edges = {0,        0x2000,  0x6000,     0x7000,
                                                     0x9f000,  0xa0000, MiB,        16 * MiB,
                                                     18 * MiB, 4 * GiB, 1ULL << 32, ~0ULL};
    auto what = input.le<std::uint8_t>();
    if (what & 0x80)
        return MiB + (input.le<std::uint16_t>() << 4);
    return edges[what % edges.size()] + input.le<std::uint16_t>() - 0x8000;
}

test::Buffer content(ByteReader& input) {
    return test::pattern(input.le<std::uint16_t>() % 2048, input.le<std::uint8_t>());
}

void add_segment(test::ElfBuilder& elf, ByteReader& input) {
    auto what = input.le<std::uint8_t>();
    switch (what & 3) {
    case 0: {
        auto entry = test::le_bytes(address(input), what & 4 ? 8 : 4);
        auto note =
            test::note(std::string_view("Xen", 4), what & 8 ? 18 : 6, entry, what & 16 ? 8 : 4);
        elf.segment(test::pt_note, 0, note).align(what & 16 ? 8 : 4);
        break;
    }
    case 1:
        elf.segment(test::pt_randomize, address(input), content(input));
        break;
    default: {
        auto place = address(input);
        auto data = content(input);
        elf.segment(test::pt_load, place, data, what & 4 ? address(input) : 0,
                    what & 8 ? place : ~0ULL);
    }
    }
    if ((what & 0xe0) == 0xe0)
        elf.filesz(address(input));
    if ((what & 0xe0) == 0xc0)
        elf.flags(input.le<std::uint32_t>());
    if ((what & 0xe0) == 0xa0)
        elf.align(address(input));
}

void add_section(test::ElfBuilder& elf, ByteReader& input) {
    constexpr std::array<const char*, 5> names = {".symtab", ".strtab", ".debug_line", ".SUNW_ctf",
                                                  ".text"};
    auto what = input.le<std::uint8_t>();
    elf.section(1 + (what & 3), names[(what >> 2) % names.size()], content(input));
    if (what & 0x80)
        elf.section_size(address(input));
}

test::Buffer make_elf(ByteReader& input, std::uint8_t what) {
    test::ElfBuilder elf(what & 1);
    // Mostly an entry that the first segment holds.
    elf.segment(test::pt_load, what & 2 ? 0x1000000 : MiB, content(input));
    elf.entry(what & 4 ? address(input) : what & 2 ? 0xffffffff81000000 : MiB);
    for (unsigned i = input.le<std::uint8_t>() % 6; i > 0; --i)
        add_segment(elf, input);
    for (unsigned i = input.le<std::uint8_t>() % 5; i > 0; --i)
        add_section(elf, input);
    return elf.build();
}

test::Buffer make_linux(ByteReader& input) {
    test::LinuxBuilder image;
    image.payload(content(input));
    constexpr std::array<std::uint16_t, 10> words = {0x1f1, 0x1f4, 0x201, 0x206, 0x22c,
                                                     0x230, 0x238, 0x258, 0x260, 0x25c};
    for (unsigned i = input.le<std::uint8_t>() % 6; i > 0; --i) {
        auto field = words[input.le<std::uint8_t>() % words.size()];
        if (field == 0x1f1 || field == 0x201)
            image.set(field, input.le<std::uint8_t>());
        else if (field == 0x206)
            image.set(field, static_cast<std::uint16_t>(0x200 + input.le<std::uint8_t>() % 16));
        else
            image.set(field, static_cast<std::uint32_t>(address(input)));
    }
    return image.build();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ByteReader input{Bytes(data, size)};
    auto what = input.le<std::uint8_t>();
    auto image = what >> 6 == 3 ? make_linux(input) : make_elf(input, what);
    // Some bytes anywhere, and an end that comes early.
    if (what & 0x20)
        for (unsigned i = 0; i < 4 && !image.empty(); ++i)
            image[input.le<std::uint16_t>() % image.size()] ^= input.le<std::uint8_t>();
    if (what & 0x10)
        image.resize(image.size() - std::min<std::size_t>(image.size(), input.le<std::uint8_t>()));
    if (what >> 6 == 2)
        image = test::gzip(image);
    test::Buffer initrd(std::size_t{input.le<std::uint8_t>()} << 13, 0x5a);
    Request request;
    request.image = image;
    request.initrd = initrd;
    request.name = "bsd";
    request.command_line = std::string(what & 8 ? 70'000 : 100, 'x');
    request.howto = what;
    (void)load_into_small_guest(request);
    return 0;
}
