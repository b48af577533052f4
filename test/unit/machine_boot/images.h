// Small boot images made in code, and a guest to load them into.
#pragma once

#define ZLIB_CONST
#include <zlib.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "machine/boot/boot.h"

namespace vmhost::machine::boot::test {

using Buffer = std::vector<std::uint8_t>;

// A guest as the machine makes it: RAM with the hole below 1 MiB, which is backed but reserved.
inline std::unique_ptr<GuestMemory> guest(std::uint64_t size_bytes) {
    auto memory = std::make_unique<GuestMemory>();
    auto add = [&](Gpa start, std::uint64_t size, bool ram) {
        if (auto added = memory->add(start, size, ram); !added)
            throw std::runtime_error(added.error().text());
    };
    add(0, 0xa0000, true);
    add(0xa0000, 0x60000, false);
    add(MiB, size_bytes - MiB, true);
    return memory;
}

inline Buffer bytes_at(const GuestMemory& memory, Gpa start, std::size_t size) {
    Buffer out(size);
    if (!memory.read(start, out))
        throw std::runtime_error("address is not backed");
    return out;
}

inline Buffer pattern(std::size_t size, std::uint8_t seed) {
    Buffer out(size);
    for (std::size_t i = 0; i < size; ++i)
        out[i] = static_cast<std::uint8_t>(seed + i * 7);
    return out;
}

inline Buffer text(std::string_view value) {
    return {value.begin(), value.end()};
}

inline Buffer gzip(Bytes plain) {
    z_stream stream{};
    deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    Buffer out(deflateBound(&stream, plain.size()));
    stream.next_in = plain.data();
    stream.avail_in = static_cast<uInt>(plain.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    deflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

// An ELF file: header, program headers, contents of segments, contents of sections, section
// names, section headers. Every number can be made wrong.
class ElfBuilder {
public:
    explicit ElfBuilder(bool is_64) : is_64_(is_64), machine_(is_64 ? 62 : 3) {}

    ElfBuilder& entry(std::uint64_t value) { return entry_ = value, *this; }
    ElfBuilder& machine(std::uint16_t value) { return machine_ = value, *this; }
    ElfBuilder& type(std::uint16_t value) { return type_ = value, *this; }
    ElfBuilder& segment(std::uint32_t type, std::uint64_t paddr, Buffer data,
                        std::uint64_t memsz = 0, std::uint64_t vaddr = ~0ULL) {
        std::uint64_t memory = memsz == 0 ? data.size() : memsz;
        segments_.push_back({type, 7, paddr, vaddr == ~0ULL ? paddr + 1 : vaddr, data.size(),
                             memory, 4, std::move(data)});
        return *this;
    }
    ElfBuilder& flags(std::uint32_t value) { return segments_.back().flags = value, *this; }
    ElfBuilder& filesz(std::uint64_t value) { return segments_.back().filesz = value, *this; }
    ElfBuilder& align(std::uint64_t value) { return segments_.back().align = value, *this; }
    ElfBuilder& section(std::uint32_t type, std::string name, Buffer data) {
        sections_.push_back({type, std::move(name), data.size(), std::move(data)});
        return *this;
    }
    ElfBuilder& section_size(std::uint64_t value) { return sections_.back().size = value, *this; }

    struct Layout {
        std::vector<std::uint64_t> segment_offsets, section_offsets;
        std::uint64_t section_table = 0;
        std::size_t section_count = 0;
        Buffer section_names;
    };

    Buffer build(Layout* layout = nullptr) const {
        Layout where;
        const std::size_t header = is_64_ ? 64 : 52, ph = is_64_ ? 56 : 32;
        ByteWriter body; // everything behind the program headers
        const std::size_t body_start = header + ph * segments_.size();
        for (const auto& s : segments_) {
            where.segment_offsets.push_back(body_start + body.size());
            body.bytes(s.data);
        }
        Buffer names(1);
        std::vector<std::uint32_t> name_offsets;
        for (const auto& s : sections_) {
            where.section_offsets.push_back(body_start + body.size());
            body.bytes(s.data);
            name_offsets.push_back(static_cast<std::uint32_t>(names.size()));
            names.insert(names.end(), s.name.begin(), s.name.end());
            names.push_back(0);
        }
        auto own_name = static_cast<std::uint32_t>(names.size());
        for (char c : std::string_view(".shstrtab\0", 10))
            names.push_back(static_cast<std::uint8_t>(c));
        where.section_offsets.push_back(body_start + body.size());
        if (!sections_.empty())
            body.bytes(names);
        where.section_table = sections_.empty() ? 0 : body_start + body.size();
        where.section_count = sections_.empty() ? 0 : sections_.size() + 2;
        where.section_names = names;
        if (!sections_.empty()) {
            section_header(body, 0, 0, 0, 0);
            for (std::size_t i = 0; i < sections_.size(); ++i)
                section_header(body, name_offsets[i], sections_[i].type, where.section_offsets[i],
                               sections_[i].size);
            section_header(body, own_name, 3, where.section_offsets.back(), names.size());
        }

        ByteWriter out;
        out.bytes(text(std::string_view("\x7f"
                                        "ELF")));
        out.le(static_cast<std::uint8_t>(is_64_ ? 2 : 1));
        out.le(std::uint8_t{1});
        out.le(std::uint8_t{1});
        out.zeros(9);
        out.le(type_);
        out.le(machine_);
        out.le(std::uint32_t{1});
        word(out, entry_);
        word(out, header);
        word(out, where.section_table);
        out.le(std::uint32_t{0});
        out.le(static_cast<std::uint16_t>(header));
        out.le(static_cast<std::uint16_t>(ph));
        out.le(static_cast<std::uint16_t>(segments_.size()));
        out.le(static_cast<std::uint16_t>(is_64_ ? 64 : 40));
        out.le(static_cast<std::uint16_t>(where.section_count));
        out.le(static_cast<std::uint16_t>(where.section_count == 0 ? 0 : where.section_count - 1));
        for (std::size_t i = 0; i < segments_.size(); ++i) {
            const auto& s = segments_[i];
            out.le(s.type);
            if (is_64_)
                out.le(s.flags);
            word(out, where.segment_offsets[i]);
            word(out, s.vaddr);
            word(out, s.paddr);
            word(out, s.filesz);
            word(out, s.memsz);
            if (!is_64_)
                out.le(s.flags);
            word(out, s.align);
        }
        out.bytes(body.buffer());
        if (layout != nullptr)
            *layout = where;
        return out.take();
    }

private:
    struct SegmentSpec {
        std::uint32_t type, flags;
        std::uint64_t paddr, vaddr, filesz, memsz, align;
        Buffer data;
    };
    struct SectionSpec {
        std::uint32_t type;
        std::string name;
        std::uint64_t size;
        Buffer data;
    };
    void word(ByteWriter& out, std::uint64_t value) const {
        if (is_64_)
            out.le(value);
        else
            out.le(static_cast<std::uint32_t>(value));
    }
    void section_header(ByteWriter& out, std::uint32_t name, std::uint32_t type,
                        std::uint64_t offset, std::uint64_t size) const {
        out.le(name);
        out.le(type);
        word(out, 0); // flags
        word(out, 0); // address
        word(out, offset);
        word(out, size);
        out.le(std::uint32_t{0x11}); // link and info: carried along
        out.le(std::uint32_t{0x22});
        word(out, 1);
        word(out, 24);
    }

    bool is_64_;
    std::uint16_t machine_, type_ = 2;
    std::uint64_t entry_ = 0;
    std::vector<SegmentSpec> segments_;
    std::vector<SectionSpec> sections_;
};

inline constexpr std::uint32_t pt_load = 1, pt_note = 4, pt_randomize = 0x65a3dbe6;
inline constexpr std::uint32_t sht_progbits = 1, sht_symtab = 2, sht_strtab = 3;

// A note as in a PT_NOTE segment.
inline Buffer note(std::string_view name_with_zero, std::uint32_t type, Bytes desc,
                   std::size_t align = 4) {
    ByteWriter out;
    out.le(static_cast<std::uint32_t>(name_with_zero.size()));
    out.le(static_cast<std::uint32_t>(desc.size()));
    out.le(type);
    out.bytes(as_bytes(name_with_zero));
    out.pad_to((out.size() + align - 1) / align * align);
    out.bytes(desc);
    out.pad_to((out.size() + align - 1) / align * align);
    return out.take();
}

inline Buffer le_bytes(std::uint64_t value, std::size_t size) {
    Buffer out(8);
    store_le<std::uint64_t>(out, value);
    out.resize(size);
    return out;
}

// An amd64 kernel in the shape of OpenBSD's: text, data with bss, the random segment inside text.
inline ElfBuilder openbsd_amd64() {
    return ElfBuilder(true)
        .entry(0xffffffff81001000)
        .segment(pt_load, 0x1001000, pattern(0x300, 1))
        .segment(pt_load, 0x1002000, pattern(0x105, 2), 0x203)
        .segment(pt_randomize, 0x1001080, Buffer(64));
}

// A Linux image with a setup header of protocol 2.15.
class LinuxBuilder {
public:
    LinuxBuilder() {
        set(0x1f1, std::uint8_t{1});
        set(0x1fe, std::uint16_t{0xaa55});
        set(0x200, std::uint16_t{0x6aeb}); // jump over a header that ends at 0x26c
        set(0x202, std::uint32_t{0x53726448});
        set(0x206, std::uint16_t{0x20f});
        set(0x211, std::uint8_t{0x41}); // loaded high, keep segments
        set(0x214, std::uint32_t{0x100000});
        set(0x22c, std::uint32_t{0x7fffffff});
        set(0x230, std::uint32_t{0x200000});
        set(0x234, std::uint8_t{1});
        set(0x238, std::uint32_t{2047});
        set(0x258, std::uint64_t{0x1000000});
        set(0x260, std::uint32_t{0x800000});
        payload(pattern(0x1230, 9));
    }
    template <WireInteger T>
    LinuxBuilder& set(std::size_t offset, T value) {
        store_le<T>(MutableBytes(setup_).subspan(offset), value);
        return *this;
    }
    LinuxBuilder& payload(Buffer data) {
        payload_ = std::move(data);
        return set(0x1f4, static_cast<std::uint32_t>(payload_.size() / 16));
    }
    const Buffer& payload() const { return payload_; }
    Buffer build() const {
        Buffer out = setup_;
        out.insert(out.end(), payload_.begin(), payload_.end());
        return out;
    }

private:
    Buffer setup_ = Buffer(1024);
    Buffer payload_;
};

// A little-endian 32-bit word of guest memory.
inline std::uint32_t word_at(const GuestMemory& memory, Gpa address) {
    auto value = memory.read_le<std::uint32_t>(address);
    if (!value)
        throw std::runtime_error("address is not backed");
    return *value;
}
inline std::uint64_t long_at(const GuestMemory& memory, Gpa address) {
    auto value = memory.read_le<std::uint64_t>(address);
    if (!value)
        throw std::runtime_error("address is not backed");
    return *value;
}

inline Request request(Bytes image) {
    Request out;
    out.image = image;
    out.name = "/bsd";
    return out;
}

// The error's text; fails the caller's comparison when there was none.
template <class T>
std::string error_of(const Result<T>& result) {
    return result ? "no error" : result.error().text();
}

} // namespace vmhost::machine::boot::test
