// How a part of a machine says what it consists of, once for both directions:
//
//   void Serial::state(StateArchive& archive) {
//       archive(line_control_, modem_control_, divisor_);
//       if (archive.loading())
//           update_interrupt();
//   }
//
// An archive that saves collects the bytes of one section; one that loads hands
// them out again and distrusts them: a stream may come from anywhere. The first
// thing that is wrong is remembered, everything after it reads as zero, and finish()
// says what it was. A part whose state was refused is destroyed with its machine, so it
// need not be whole, but its destructor must cope; an index or a count must be checked
// (at_most) before it is used.
//
// Rules for state():
//  - no pointers, host times or descriptors; a deadline is kept as guest time (Clock::now_ns)
//    and scheduled again when loading;
//  - what follows from other state (an interrupt level, a decoded BAR) is worked out again and
//    not loaded: a part is loaded into a machine whose wires are all low, before the interrupt
//    controllers are;
//  - new fields go to the end, behind `if (archive.version(n) >= n)`. A part that never asks for
//    a version has version 1.
//
// On the wire: little-endian without padding; integers and enums in their own size, size_t as
// 64 bits, bool as one byte 0 or 1, lists and texts as u32 count and elements.
//
// Threads: of whoever calls, under the device lock, while the machine is paused.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/base.h"

namespace vmhost::machine {

class StateArchive {
public:
    StateArchive() = default;                          // saves
    StateArchive(Bytes payload, std::uint16_t version) // loads
        : reader_(payload), version_(version) {}

    bool loading() const { return reader_.has_value(); }
    // Which version of the part is at hand: the newest one when saving. A newer one than the
    // part knows is refused.
    std::uint16_t version(std::uint16_t newest);
    std::uint16_t version() const { return version_; }

    // Integers, bool, Mac, std::array of those, and structs with state(StateArchive&).
    template <class... Values>
    void operator()(Values&... values) {
        (value(values), ...);
    }
    // An integer or an enum that may not be above `most`.
    template <class T>
    void at_most(T& number, T most, std::string_view what) {
        value(number);
        if (loading() && number > most) {
            refuse(fmt::format("{} is {}, at most {} is possible", what, +raw(number), +raw(most)));
            number = T{};
        }
    }
    void text(std::string& text, std::size_t most_bytes, std::string_view what);
    void bytes(std::vector<std::uint8_t>& bytes, std::size_t most, std::string_view what);
    // Of bytes that must be as many on both sides.
    void bytes(MutableBytes bytes);
    template <class T>
    void list(std::vector<T>& list, std::size_t most, std::string_view what) {
        auto size = count(list.size(), most, what);
        if (loading()) {
            list.clear();
            for (std::size_t i = 0; i < size && ok(); ++i)
                value(list.emplace_back());
        } else {
            for (auto& element : list)
                value(element);
        }
    }
    // What must be the same on both sides; refused by its name when it is not.
    template <class T>
    void same(T here, std::string_view what) {
        T there = here;
        value(there);
        if (ok() && there != here)
            refuse(fmt::format("{} is {} here and was {}", what, +here, +there));
    }
    // How many elements of a list follow.
    std::size_t count(std::size_t here, std::size_t most, std::string_view what);

    // Of what is saved: this cannot be; of what is loaded: this cannot be restored here.
    void refuse(std::string why, ErrorKind kind = ErrorKind::corrupt);
    bool ok() const { return !wrong_ && (!reader_ || reader_->ok()); }

    // To be called last: also refuses what is cut short or left over.
    Result<void> finish();
    std::vector<std::uint8_t> take() { return writer_.take(); }

private:
    template <class T>
    static constexpr auto raw(T number) {
        if constexpr (std::is_enum_v<T>)
            return static_cast<std::underlying_type_t<T>>(number);
        else
            return number;
    }
    template <WireInteger T>
    void integer(T& number) {
        if (!reader_)
            writer_.le(number);
        else
            number = wrong_ ? T{} : reader_->le<T>();
    }
    template <class T>
    void value(T& it) {
        if constexpr (std::is_same_v<T, bool>) {
            std::uint8_t byte = it ? 1 : 0;
            integer(byte);
            if (byte > 1)
                refuse("a truth value is neither 0 nor 1");
            it = byte == 1;
        } else if constexpr (std::is_enum_v<T>) {
            auto number = raw(it);
            integer(number);
            it = static_cast<T>(number);
        } else if constexpr (std::is_integral_v<T>) {
            static_assert(sizeof(std::size_t) == 8);
            integer(it);
        } else if constexpr (std::is_same_v<T, Mac>) {
            bytes(MutableBytes(it.octets));
        } else {
            structure(it);
        }
    }
    template <class T, std::size_t n>
    void structure(std::array<T, n>& elements) {
        if constexpr (std::is_same_v<T, std::uint8_t>)
            bytes(MutableBytes(elements));
        else
            for (auto& element : elements)
                value(element);
    }
    template <class T>
    void structure(T& part) {
        part.state(*this);
    }

    ByteWriter writer_;
    std::optional<ByteReader> reader_; // none: saves
    std::uint16_t version_ = 1;
    bool version_known_ = false;
    std::optional<Error> wrong_;
};

} // namespace vmhost::machine
