// What every reader of a TOML node needs: where it stands (for complaints), the list of
// complaints so far, and the place of each value that the operator wrote.
//
// Places are kept beside the model, keyed by the address of the field they filled: the
// checks that come after reading (check.cc, assign.cc) ask "was this given, and where?"
// without a second copy of the model. Hence a vector of the model gets its full size
// before its elements are read, and does not grow afterwards.
//
// Runs in whatever thread called parse(); holds no state between calls.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/config.h"
#include "config/toml.h"

namespace vmhost::config {

// "vm.a.disk[1].path", kept as links on the stack: text is only made for a complaint.
struct Path {
    static constexpr std::size_t no_index = SIZE_MAX;
    const Path* up = nullptr;
    std::string_view name;
    std::size_t index = no_index;
    std::string text() const;
};

class Findings {
public:
    explicit Findings(std::string file) : file_(std::move(file)) {}

    Place place(toml::source_position position) const {
        return {file_, position.line, position.column};
    }
    void complain(Place place, ErrorKind kind, std::string text);
    std::size_t count() const { return complaints_.size() + dropped_; }
    // In file order, at most limits::max_complaints and one line that counts the rest.
    Complaints take();

    void note(const void* field, toml::source_position position) { places_[field] = position; }
    void note_key(std::string name, Place place) {
        keys_.emplace(std::move(name), std::move(place));
    }
    Places take_keys() { return std::move(keys_); }
    // True also when the value was given but wrong: no complaint should follow from that.
    bool given(const void* field) const { return places_.contains(field); }
    // Of the value when it was given, else the fallback.
    Place place_of(const void* field, const Place& fallback) const;

private:
    std::string file_;
    Complaints complaints_;
    std::size_t dropped_ = 0;
    std::unordered_map<const void*, toml::source_position> places_;
    Places keys_;
};

// One value to be read: the node, what it is called, and where to complain.
struct Spot {
    Findings& findings;
    const Path& path;
    const toml::node& node;
    toml::source_position key; // of its name; of the element itself inside an array

    toml::source_position position() const;
    Place place() const { return findings.place(position()); }
    Place key_place() const { return findings.place(key); }
    void note(const void* field) const { findings.note(field, position()); }
    // At the value: "vm.a.memory: TEXT".
    void complain(std::string_view text, ErrorKind kind = ErrorKind::invalid) const;
    // "vm.a.memory: expected WHAT, got a boolean".
    void expected(std::string_view what) const;
};

struct Member {
    const toml::key* key;
    const toml::node* node;
};
// toml++ sorts tables by name; a file is read, and complained about, from top to bottom.
std::vector<Member> in_file_order(const toml::table& table);

// ": did you mean \"memory\"?", or nothing when no candidate is near.
std::string suggestion(std::string_view word, const std::vector<std::string_view>& candidates);

} // namespace vmhost::config
