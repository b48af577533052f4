// Typed messages: a struct becomes a frame, and a frame the struct again.
//
//   struct StartVm {
//       static constexpr std::uint16_t type = 7;
//       std::string name;
//       std::vector<Fd> disks;
//       template <class A> void fields(A& a) { a(name, disks); }
//   };
//
//   channel.send(ipc::encode(std::move(start)));
//   auto start = TRY(ipc::decode<StartVm>(std::move(frame)));
//
// fields() lists the members once, for both directions. A struct that is only a
// part of messages has fields() but no type; where the struct belongs to another
// room, a function `template <class A> void fields(A& a, Struct& s)` beside it
// does the same.
//
// On the wire, little-endian without padding: integers and enums in their own
// size; bool as one byte 0 or 1; strings and vectors as u32 count and elements;
// optionals as bool and value; durations as i64 milliseconds. A descriptor is one
// byte (0 = none, 1 = the next descriptor of the frame). Whatever comes from the
// peer is checked: no count beyond the bytes that are left, no trailing bytes, no
// descriptors left over. An enum is checked against its last value when a
// function `constexpr E enum_last(E)` stands beside it.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ipc/ipc.h"

namespace vmhost::ipc {

template <class T, class A>
concept HasFields = requires(T& value, A& archive) {
    value.fields(archive);
};
template <class T, class A>
concept HasFreeFields = requires(T& value, A& archive) {
    fields(archive, value);
};
template <class E>
concept RangedEnum = requires(E value) {
    { enum_last(value) } -> std::same_as<E>;
};

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {
    static_assert(!std::is_same_v<T, bool>, "std::vector<bool> has no elements to refer to");
    // Each element takes at least a byte, which bounds the count.
    static_assert(!std::is_empty_v<T>);
};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsPair : std::false_type {};
template <class A, class B>
struct IsPair<std::pair<A, B>> : std::true_type {};

template <class T>
T fresh() {
    if constexpr (std::is_same_v<T, Error>)
        return Error(ErrorKind::internal, "");
    else
        return T{};
}

// Writes values, takes descriptors out of them.
class Encoder {
public:
    template <class... Values>
    void operator()(Values&... values) {
        (put(values), ...);
    }
    std::vector<std::uint8_t> take_bytes() { return bytes_.take(); }
    std::vector<Fd> take_fds() { return std::move(fds_); }

private:
    void put_count(std::size_t count) { bytes_.le(static_cast<std::uint32_t>(count)); }

    template <class T>
    void put(T& value) {
        if constexpr (std::is_same_v<T, bool>) {
            bytes_.le(static_cast<std::uint8_t>(value));
        } else if constexpr (std::is_integral_v<T>) {
            bytes_.le(value);
        } else if constexpr (std::is_enum_v<T>) {
            bytes_.le(static_cast<std::underlying_type_t<T>>(value));
        } else if constexpr (std::is_same_v<T, std::string>) {
            put_count(value.size());
            bytes_.bytes(as_bytes(value));
        } else if constexpr (IsVector<T>::value) {
            put_count(value.size());
            for (auto& element : value)
                put(element);
        } else if constexpr (IsOptional<T>::value) {
            bytes_.le(static_cast<std::uint8_t>(value.has_value()));
            if (value)
                put(*value);
        } else if constexpr (IsPair<T>::value) {
            put(value.first);
            put(value.second);
        } else if constexpr (std::is_same_v<T, Fd>) {
            bytes_.le(static_cast<std::uint8_t>(static_cast<bool>(value)));
            if (value)
                fds_.push_back(std::move(value));
        } else if constexpr (std::is_same_v<T, Mac>) {
            bytes_.bytes(value.octets);
        } else if constexpr (std::is_same_v<T, Ipv4>) {
            bytes_.le(value.value);
        } else if constexpr (std::is_same_v<T, Ipv4Prefix>) {
            bytes_.le(value.address.value);
            bytes_.le(value.length);
        } else if constexpr (std::is_same_v<T, Ipv6>) {
            bytes_.le(value.high);
            bytes_.le(value.low);
        } else if constexpr (std::is_same_v<T, Ipv6Prefix>) {
            (*this)(value.address, value.length);
        } else if constexpr (std::is_same_v<T, std::chrono::milliseconds>) {
            bytes_.le(static_cast<std::int64_t>(value.count()));
        } else if constexpr (std::is_same_v<T, Place>) {
            (*this)(value.file, value.line, value.column);
        } else if constexpr (std::is_same_v<T, Error>) {
            auto kind = value.kind();
            auto text = value.text();
            auto place = value.place();
            (*this)(kind, text, place);
        } else if constexpr (HasFields<T, Encoder>) {
            value.fields(*this);
        } else {
            static_assert(HasFreeFields<T, Encoder>, "this type cannot be part of a message");
            fields(*this, value);
        }
    }

    ByteWriter bytes_;
    std::vector<Fd> fds_;
};

// Reads values from a frame of a process that may be hostile. After the first
// wrong value nothing more is read and error() says what it was.
class Decoder {
public:
    Decoder(Bytes bytes, std::vector<Fd> fds) : reader_(bytes), fds_(std::move(fds)) {}

    template <class... Values>
    void operator()(Values&... values) {
        (get(values), ...);
    }
    // To be called last: also refuses what is left over.
    std::optional<std::string> error() {
        if (wrong_.empty() && !reader_.ok())
            wrong_ = "it is cut short";
        if (wrong_.empty() && reader_.remaining() > 0)
            wrong_ = fmt::format("{} bytes are left over", reader_.remaining());
        if (wrong_.empty() && next_fd_ != fds_.size())
            wrong_ = fmt::format("{} descriptors are left over", fds_.size() - next_fd_);
        return wrong_.empty() ? std::nullopt : std::optional(wrong_);
    }

private:
    void refuse(std::string_view why) {
        if (wrong_.empty())
            wrong_ = why;
        reader_.skip(reader_.remaining() + 1);
    }
    bool get_bool() {
        auto byte = reader_.le<std::uint8_t>();
        if (byte > 1)
            refuse("a truth value is neither 0 nor 1");
        return byte == 1;
    }
    std::size_t get_count() {
        auto count = reader_.le<std::uint32_t>();
        if (count <= reader_.remaining())
            return count;
        refuse("a count goes past the end");
        return 0;
    }
    template <class E>
    void get_enum(E& value) {
        using Number = std::underlying_type_t<E>;
        auto number = reader_.le<Number>();
        if constexpr (RangedEnum<E>) {
            auto last = static_cast<Number>(enum_last(E{}));
            if (number > last || (std::is_signed_v<Number> && number < Number{})) {
                refuse("an enumeration has no such value");
                number = Number{};
            }
        }
        value = static_cast<E>(number);
    }
    void get_fd(Fd& value) {
        value.reset();
        if (!get_bool())
            return;
        if (next_fd_ < fds_.size())
            value = std::move(fds_[next_fd_++]);
        else
            refuse("a descriptor is missing");
    }

    template <class T>
    void get(T& value) {
        if constexpr (std::is_same_v<T, bool>) {
            value = get_bool();
        } else if constexpr (std::is_integral_v<T>) {
            value = reader_.le<T>();
        } else if constexpr (std::is_enum_v<T>) {
            get_enum(value);
        } else if constexpr (std::is_same_v<T, std::string>) {
            value = as_text(reader_.bytes(get_count()));
        } else if constexpr (IsVector<T>::value) {
            value.clear();
            auto count = get_count();
            for (std::size_t i = 0; i < count && reader_.ok(); ++i) {
                value.push_back(fresh<typename T::value_type>());
                get(value.back());
            }
        } else if constexpr (IsOptional<T>::value) {
            value.reset();
            if (get_bool()) {
                value.emplace(fresh<typename T::value_type>());
                get(*value);
            }
        } else if constexpr (IsPair<T>::value) {
            get(value.first);
            get(value.second);
        } else if constexpr (std::is_same_v<T, Fd>) {
            get_fd(value);
        } else if constexpr (std::is_same_v<T, Mac>) {
            value = Mac::from(reader_.bytes(6));
        } else if constexpr (std::is_same_v<T, Ipv4>) {
            value.value = reader_.le<std::uint32_t>();
        } else if constexpr (std::is_same_v<T, Ipv4Prefix>) {
            value.address.value = reader_.le<std::uint32_t>();
            value.length = reader_.le<std::uint8_t>();
            if (value.length > 32) {
                value.length = 32;
                refuse("a prefix is longer than 32 bits");
            }
        } else if constexpr (std::is_same_v<T, Ipv6>) {
            value.high = reader_.le<std::uint64_t>();
            value.low = reader_.le<std::uint64_t>();
        } else if constexpr (std::is_same_v<T, Ipv6Prefix>) {
            (*this)(value.address, value.length);
            if (value.length > 128) {
                value.length = 128;
                refuse("a prefix is longer than 128 bits");
            }
        } else if constexpr (std::is_same_v<T, std::chrono::milliseconds>) {
            value = std::chrono::milliseconds(reader_.le<std::int64_t>());
        } else if constexpr (std::is_same_v<T, Place>) {
            (*this)(value.file, value.line, value.column);
        } else if constexpr (std::is_same_v<T, Error>) {
            get_error(value);
        } else if constexpr (HasFields<T, Decoder>) {
            value.fields(*this);
        } else {
            static_assert(HasFreeFields<T, Decoder>, "this type cannot be part of a message");
            fields(*this, value);
        }
    }
    void get_error(Error& value) {
        auto kind = reader_.le<std::uint8_t>();
        std::string text;
        Place place;
        (*this)(text, place);
        if (kind > static_cast<std::uint8_t>(ErrorKind::internal))
            return refuse("an error is of no known kind");
        value = Error(static_cast<ErrorKind>(kind), std::move(text)).at(std::move(place));
    }

    ByteReader reader_;
    std::vector<Fd> fds_;
    std::size_t next_fd_ = 0;
    std::string wrong_;
};

// By value: a message with descriptors must be moved in, they go with the frame.
template <class T>
Frame encode(T message) {
    Encoder encoder;
    message.fields(encoder);
    return {T::type, encoder.take_bytes(), encoder.take_fds()};
}

template <class T>
Result<T> decode(Frame&& frame) {
    if (frame.type != T::type)
        return fail(ErrorKind::corrupt, "ipc: message of type {} came where type {} was due",
                    frame.type, T::type);
    T message{};
    Decoder decoder(frame.payload, std::move(frame.fds));
    message.fields(decoder);
    if (auto wrong = decoder.error())
        return fail(ErrorKind::corrupt, "ipc: message of type {} is malformed: {}", frame.type,
                    *wrong);
    return message;
}

} // namespace vmhost::ipc
