// A small encoder of AML, the byte code of ACPI's namespace, as far as a machine
// description needs it: names, constants, packages, devices and resource
// descriptors. No methods: nothing in our tables runs.
//
// Every function returns the bytes of one term, so a table is written as an
// expression whose shape is that of the source language. Follows the ACPI
// Specification 6.5: section 20.2 (AML), 6.4 (resource descriptors), 19.3.4 (EISA ids).
#pragma once

#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::machine::acpi::aml {

using Code = std::vector<std::uint8_t>;

// Terms one after the other.
Code join(const std::vector<Code>& terms);

// "\_SB.PCI0": an optional root, then segments of 1 to 4 characters, filled up with '_'.
Code path(std::string_view text);
Code integer(std::uint64_t value);
// Three letters and four hexadecimal digits: "PNP0A03".
Code eisa_id(std::string_view text);
Code package(const std::vector<Code>& elements); // at most 255

Code name(std::string_view object, const Code& value);
Code scope(std::string_view object, const std::vector<Code>& terms);
Code device(std::string_view object, const std::vector<Code>& terms);
Code processor(std::string_view object, std::uint8_t id); // without a register block

// The buffer that _CRS holds; its end tag is added here.
Code resources(const std::vector<Code>& descriptors);
Code fixed_ports(std::uint16_t first, std::uint8_t count);
Code isa_interrupt(unsigned line); // edge-triggered, active high
// Windows that a bridge passes on to its bus; first and last included.
Code bus_numbers(std::uint16_t first, std::uint16_t last);
Code port_window(std::uint16_t first, std::uint16_t last);
Code memory_window(std::uint32_t first, std::uint32_t last); // uncached

} // namespace vmhost::machine::acpi::aml
