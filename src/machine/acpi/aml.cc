#include "machine/acpi/aml.h"

#include <algorithm>
#include <array>

namespace vmhost::machine::acpi::aml {

namespace {

enum Opcode : std::uint8_t {
    zero = 0x00,
    one = 0x01,
    name_op = 0x08,
    byte_prefix = 0x0a,
    word_prefix = 0x0b,
    dword_prefix = 0x0c,
    qword_prefix = 0x0e,
    scope_op = 0x10,
    buffer_op = 0x11,
    package_op = 0x12,
    dual_name = 0x2e,
    multiple_names = 0x2f,
    extended = 0x5b,
    device_op = 0x82,    // after extended
    processor_op = 0x83, // after extended
};

// Section 20.2.4: the length counts its own bytes. One byte holds 6 bits; else the first says
// how many follow and holds the low 4 bits.
Code with_length(const Code& content) {
    Code length;
    if (content.size() + 1 < 64) {
        length = {static_cast<std::uint8_t>(content.size() + 1)};
    } else {
        std::size_t extra = content.size() + 2 < 1U << 12   ? 1
                            : content.size() + 3 < 1U << 20 ? 2
                                                            : 3;
        std::size_t total = content.size() + 1 + extra;
        length.push_back(static_cast<std::uint8_t>(extra << 6 | (total & 15)));
        for (std::size_t i = 0; i < extra; ++i)
            length.push_back(static_cast<std::uint8_t>(total >> (4 + 8 * i)));
    }
    length.insert(length.end(), content.begin(), content.end());
    return length;
}

template <WireInteger T>
Code prefixed(Opcode prefix, T value) {
    ByteWriter out;
    out.le<std::uint8_t>(prefix);
    out.le(value);
    return out.take();
}

// Section 6.4.3.5: address space descriptors of both widths. Producer, positive decoding,
// minimum and maximum fixed.
enum Kind : std::uint8_t { memory_range = 0, port_range = 1, bus_range = 2 };

template <WireInteger T>
Code window(std::uint8_t tag, Kind kind, std::uint8_t type_flags, T first, T last) {
    constexpr std::uint8_t fixed = 0x0c;
    ByteWriter out;
    out.le(tag);
    out.le(static_cast<std::uint16_t>(3 + 5 * sizeof(T)));
    out.le<std::uint8_t>(kind);
    out.le(fixed);
    out.le(type_flags);
    out.le(T{0}); // granularity
    out.le(first);
    out.le(last);
    out.le(T{0}); // translation
    out.le(static_cast<T>(last - first + 1));
    return out.take();
}

} // namespace

Code join(const std::vector<Code>& terms) {
    Code all;
    for (const auto& term : terms)
        all.insert(all.end(), term.begin(), term.end());
    return all;
}

Code path(std::string_view text) {
    Code out;
    if (text.starts_with('\\')) {
        out.push_back('\\');
        text.remove_prefix(1);
    }
    auto segments = text.empty() ? 0 : 1 + std::ranges::count(text, '.');
    if (segments == 0)
        out.push_back(zero); // NullName: the root itself
    if (segments == 2)
        out.push_back(dual_name);
    if (segments > 2) {
        out.push_back(multiple_names);
        out.push_back(static_cast<std::uint8_t>(segments));
    }
    while (!text.empty()) {
        auto segment = text.substr(0, text.find('.'));
        text.remove_prefix(std::min(text.size(), segment.size() + 1));
        for (std::size_t i = 0; i < 4; ++i)
            out.push_back(static_cast<std::uint8_t>(i < segment.size() ? segment[i] : '_'));
    }
    return out;
}

Code integer(std::uint64_t value) {
    if (value <= 1)
        return {value == 0 ? zero : one};
    if (value <= UINT8_MAX)
        return prefixed(byte_prefix, static_cast<std::uint8_t>(value));
    if (value <= UINT16_MAX)
        return prefixed(word_prefix, static_cast<std::uint16_t>(value));
    if (value <= UINT32_MAX)
        return prefixed(dword_prefix, static_cast<std::uint32_t>(value));
    return prefixed(qword_prefix, value);
}

// Five bits for each letter, four for each digit, the whole in big-endian order.
Code eisa_id(std::string_view text) {
    std::uint32_t id = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto letter = static_cast<std::uint8_t>(text[i]);
        if (i < 3)
            id = id << 5 | (letter & 0x1fU);
        else
            id = id << 4 | (letter <= '9' ? letter - '0' : letter - 'A' + 10U);
    }
    return prefixed(dword_prefix, from_big(id));
}

Code package(const std::vector<Code>& elements) {
    auto content = join(elements);
    content.insert(content.begin(), static_cast<std::uint8_t>(elements.size()));
    return join({{package_op}, with_length(content)});
}

Code name(std::string_view object, const Code& value) {
    return join({{name_op}, path(object), value});
}

Code scope(std::string_view object, const std::vector<Code>& terms) {
    return join({{scope_op}, with_length(join({path(object), join(terms)}))});
}

Code device(std::string_view object, const std::vector<Code>& terms) {
    return join({{extended, device_op}, with_length(join({path(object), join(terms)}))});
}

Code processor(std::string_view object, std::uint8_t id) {
    return join({{extended, processor_op}, with_length(join({path(object), {id, 0, 0, 0, 0, 0}}))});
}

Code resources(const std::vector<Code>& descriptors) {
    auto content = join(descriptors);
    content.insert(content.end(), {0x79, 0}); // end tag; checksum 0 = not checked
    return join({{buffer_op}, with_length(join({integer(content.size()), content}))});
}

Code fixed_ports(std::uint16_t first, std::uint8_t count) {
    ByteWriter out;
    out.le(std::uint8_t{0x47});
    out.le(std::uint8_t{1}); // 16 address lines are decoded
    out.le(first);
    out.le(first);
    out.le(std::uint8_t{1}); // alignment
    out.le(count);
    return out.take();
}

Code isa_interrupt(unsigned line) {
    ByteWriter out;
    out.le(std::uint8_t{0x22});
    out.le(static_cast<std::uint16_t>(1U << line));
    return out.take();
}

Code bus_numbers(std::uint16_t first, std::uint16_t last) {
    return window(0x88, bus_range, 0, first, last);
}

Code port_window(std::uint16_t first, std::uint16_t last) {
    constexpr std::uint8_t entire_range = 3;
    return window(0x88, port_range, entire_range, first, last);
}

Code memory_window(std::uint32_t first, std::uint32_t last) {
    constexpr std::uint8_t writable = 1;
    return window(0x87, memory_range, writable, first, last);
}

} // namespace vmhost::machine::acpi::aml
