// What two models disagree on. The schema writes each as a tree of values, and the trees are
// walked side by side: a key that is added to the schema is compared without a word here.
#include <algorithm>
#include <functional>

#include "config/schema.h"

namespace vmhost::config {

namespace {

bool is_tables(const Json& value) {
    return value.is_array() && !value.empty() && value.front().is_object();
}

class Comparison {
public:
    using Path = std::vector<std::string>;

    explicit Comparison(const Model& after) : after_(after) {}

    // path is that of the key that both values stand at. null = not there.
    void compare(const Path& path, const Json& before, const Json& after) {
        if (before == after)
            return;
        if (before.is_object() && after.is_object())
            return compare_tables(path, before, after);
        if ((is_tables(before) || before.is_null()) && (is_tables(after) || after.is_null()) &&
            !(before.is_null() && after.is_null()))
            return compare_arrays(path, before, after);
        add(path, before, after);
    }

    std::vector<Difference> take() { return std::move(out_); }

private:
    void compare_tables(const Path& path, const Json& before, const Json& after) {
        static const Json nothing;
        auto below = [&](const std::string& key) {
            auto longer = path;
            longer.push_back(key);
            return longer;
        };
        for (const auto& [key, value] : after.items())
            compare(below(key), before.contains(key) ? before.at(key) : nothing, value);
        for (const auto& [key, value] : before.items())
            if (!after.contains(key))
                compare(below(key), value, nothing);
    }

    void compare_arrays(const Path& path, const Json& before, const Json& after) {
        static const Json nothing;
        for (std::size_t i = 0; i < std::max(before.size(), after.size()); ++i) {
            auto element = path;
            element.back() += fmt::format("[{}]", i);
            compare(element, i < before.size() ? before[i] : nothing,
                    i < after.size() ? after[i] : nothing);
        }
    }

    void add(const Path& path, const Json& before, const Json& after) {
        Difference one;
        one.kind = before.is_null()  ? Difference::Kind::added
                   : after.is_null() ? Difference::Kind::removed
                                     : Difference::Kind::changed;
        one.path = path;
        one.key = fmt::format("{}", fmt::join(path, "."));
        one.place = place_of(path);
        auto dumped = [](const Json& value) {
            return value.dump(-1, ' ', false, Json::error_handler_t::replace);
        };
        one.fingerprint = std::hash<std::string>()(dumped(before) + '\n' + dumped(after));
        bool whole = before.is_object() || after.is_object(); // a table is its name, not its text
        if (!whole) {
            one.before = text_of(one.key, before);
            one.after = text_of(one.key, after);
        }
        out_.push_back(std::move(one));
    }

    static std::string text_of(const std::string& name, const Json& value) {
        if (value.is_null())
            return {};
        // Behind an ssh key stands the password that vmhost deploy made.
        return name.ends_with("password") || name.ends_with("sshkey") ? "(secret)"
                                                                      : value_text(value);
    }

    // Of the key, or of the nearest table around it that is in the file.
    Place place_of(Path path) const {
        for (; !path.empty(); path.pop_back()) {
            // Where the first of many stands says nothing of another.
            if (path.size() == 1 && (path[0] == "vm" || path[0] == "switch"))
                break;
            auto name = fmt::format("{}", fmt::join(path, "."));
            for (;;) {
                if (auto found = after_.places.find(name); found != after_.places.end())
                    return found->second;
                if (!path.back().ends_with(']'))
                    break;
                path.back().resize(path.back().find_last_of('[')); // the array around an element
                name.resize(name.find_last_of('['));
            }
        }
        return {after_.file, 0, 0};
    }

    const Model& after_;
    std::vector<Difference> out_;
};

} // namespace

std::vector<Difference> differences(const Model& before, const Model& after) {
    Comparison comparison(after);
    comparison.compare({}, write_section(file_section, &before),
                       write_section(file_section, &after));
    return comparison.take();
}

} // namespace vmhost::config
