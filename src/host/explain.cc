#include "host/explain.h"

#include <nlohmann/json.hpp>

#include "net/net.h"

namespace vmhost::host {

namespace {

using Source = Fact::Source;

std::string line_of(const config::Model& model, const std::string& key) {
    auto found = model.places.find(key);
    return found == model.places.end()
               ? std::string("the default")
               : fmt::format("{}:{}", found->second.file, found->second.line);
}

class Explanation {
public:
    Explanation(const config::Model& model, const config::Vm& vm, const Knowledge& knowledge)
        : model_(model), vm_(vm), knowledge_(knowledge) {}

    std::vector<Fact> take() {
        explain_name();
        explain_id();
        explain_settings();
        for (std::size_t i = 0; i < vm_.interfaces.size(); ++i)
            explain_interface(i);
        if (const auto& running = knowledge_.running) {
            add("state", running->state, Source::host);
            if (!running->lease.empty())
                add("lease", running->lease, Source::host);
        }
        return std::move(facts_);
    }

private:
    Fact& add(std::string what, std::string value, Source source, std::string text = {}) {
        return facts_.emplace_back(Fact{.what = std::move(what),
                                        .value = std::move(value),
                                        .source = source,
                                        .text = std::move(text)});
    }

    bool by_command() const { return knowledge_.running && knowledge_.running->maker; }

    // Of a key of the VM's table: its own, that of a template, or the default. same(template)
    // says whether a template has the value, too.
    template <class Same>
    void add_key(std::string what, std::string value, const std::string& key, Same same) {
        auto& fact = add(std::move(what), std::move(value), Source::standard);
        for (const auto* vm = &vm_; vm != nullptr; vm = model_.find_vm(vm->instance_of)) {
            if (vm != &vm_ && !same(*vm))
                break;
            auto found = model_.places.find(fmt::format("vm.{}.{}", vm->name, key));
            if (found != model_.places.end()) {
                fact.source = vm == &vm_ ? Source::file : Source::from_template;
                fact.place = found->second;
                fact.text = vm == &vm_ ? std::string() : vm->name;
                return;
            }
            // An interface of its own has nothing of the template's.
            auto bracket = key.find(']');
            if (bracket != std::string::npos &&
                model_.places.contains(
                    fmt::format("vm.{}.{}", vm->name, key.substr(0, bracket + 1))))
                return;
        }
        const auto* parent = model_.find_vm(vm_.instance_of);
        if (by_command() && (parent == nullptr || !same(*parent))) {
            fact.source = Source::command;
            fact.text = fmt::format("uid {}", *knowledge_.running->maker);
        }
    }

    void explain_name() {
        if (by_command())
            add("vm", vm_.name, Source::command, fmt::format("uid {}", *knowledge_.running->maker));
        else
            add("vm", vm_.name, Source::file).place = vm_.place;
        if (!vm_.instance_of.empty())
            add_key("template", vm_.instance_of, "instance_of",
                    [](const config::Vm&) { return false; });
    }

    void explain_id() {
        std::optional<std::uint32_t> id;
        if (knowledge_.stored) {
            id = knowledge_.stored->id;
            auto& fact = add("id", fmt::format("{}", *id), Source::remembered, "for this name");
            fact.since_s = knowledge_.stored->since_s;
        } else if (knowledge_.running) {
            id = knowledge_.running->id;
            add("id", fmt::format("{}", *id), Source::host,
                "until vmhost ends: " + knowledge_.not_stored_because);
        } else {
            add("id", "-", Source::unknown,
                knowledge_.not_stored_because.empty() ? "given at its first start"
                                                      : knowledge_.not_stored_because);
        }
        if (knowledge_.running && !knowledge_.running->uid)
            add("uid", "-", Source::host, "that of vmhost, which was not started as root");
        else if (id)
            add("uid", fmt::format("{}", model_.host.vm_uids + *id), Source::derived,
                fmt::format("vm_uids of [host], {} by {}, plus the id", model_.host.vm_uids,
                            line_of(model_, "host.vm_uids")));
    }

    void explain_settings() {
        auto owner =
            vm_.owner.user + (vm_.owner.group.empty() ? std::string() : ":" + vm_.owner.group);
        add_key("owner", owner, "owner",
                [&](const config::Vm& other) { return other.owner == vm_.owner; });
        if (!by_command())
            add_key("start",
                    vm_.suspended ? "by root alone"
                    : vm_.enabled ? "with the host"
                                  : "by vmctl start",
                    vm_.suspended ? "suspended" : "enable",
                    [](const config::Vm&) { return false; }); // an instance does not inherit it
        add_key("memory", format_size(vm_.memory_bytes), "memory",
                [&](const config::Vm& other) { return other.memory_bytes == vm_.memory_bytes; });
        add_key("boot", vm_.boot.empty() ? "SeaBIOS" : vm_.boot, "boot",
                [&](const config::Vm& other) { return other.boot == vm_.boot; });
    }

    const store::Interface* stored(std::size_t index) const {
        if (knowledge_.stored)
            for (const auto& one : knowledge_.stored->interfaces)
                if (one.index == index)
                    return &one;
        return nullptr;
    }

    // given by the file, else as it was remembered, else by the rule.
    void add_address(const std::string& key, std::string value, bool kept, std::int64_t since_s,
                     std::string rule) {
        auto place = model_.places.find(fmt::format("vm.{}.{}", vm_.name, key));
        if (place != model_.places.end() && !by_command()) {
            add(key, std::move(value), Source::file).place = place->second;
        } else if (kept) {
            add(key, std::move(value), Source::remembered, std::move(rule)).since_s = since_s;
        } else {
            add(key, std::move(value), Source::derived,
                knowledge_.not_stored_because.empty()
                    ? std::move(rule)
                    : fmt::format("{} ({})", rule, knowledge_.not_stored_because));
        }
    }

    void explain_interface(std::size_t i) {
        const auto& interface = vm_.interfaces[i];
        auto key = [&](const char* name) { return fmt::format("interface[{}].{}", i, name); };
        auto same_wire = [&](const config::Vm& other) {
            return i < other.interfaces.size() && other.interfaces[i].local == interface.local &&
                   (interface.local || other.interfaces[i].switch_name == interface.switch_name);
        };
        if (interface.local)
            add_key(key("local"), "true", key("local"), same_wire);
        else
            add_key(key("switch"), interface.switch_name.empty() ? "none" : interface.switch_name,
                    key("switch"), same_wire);
        if (interface.tap.empty())
            add(key("tap"), net::tap_name(vm_.name, static_cast<unsigned>(i)), Source::derived,
                "name of the VM and index");
        else
            add(key("tap"), interface.tap, Source::file).place =
                model_.places.contains(fmt::format("vm.{}.{}", vm_.name, key("tap")))
                    ? model_.places.at(fmt::format("vm.{}.{}", vm_.name, key("tap")))
                    : Place(interface.place);
        const auto* before = stored(i);
        add_address(key("lladdr"), interface.lladdr.text(),
                    before && before->lladdr == interface.lladdr,
                    before ? before->lladdr_since_s : 0,
                    fmt::format("of the names of host and VM, and the index; host.name by {}",
                                line_of(model_, "host.name")));
        explain_ipv4(i, before);
        if (interface.ipv6)
            add_address(key("ipv6"), interface.ipv6->text(),
                        before && before->ipv6 == interface.ipv6 &&
                            before->switch_name == interface.switch_name,
                        before ? before->ipv6_since_s : 0, ipv6_rule(interface));
    }

    void explain_ipv4(std::size_t i, const store::Interface* before) {
        const auto& interface = vm_.interfaces[i];
        auto key = [&](const char* name) { return fmt::format("interface[{}].{}", i, name); };
        if (!interface.ipv4) {
            add(key("ipv4"), "none", Source::derived,
                interface.switch_name.empty() ? "it is plugged into nothing"
                                              : "its switch has no ipv4");
            return;
        }
        auto rule = interface.local ? fmt::format("a pair of {}, host.local.ipv4 by {}",
                                                  model_.host.local_ipv4.text(),
                                                  line_of(model_, "host.local.ipv4"))
                                    : subnet_rule(interface);
        add_address(key("ipv4"), interface.ipv4->text(),
                    before && before->ipv4 == interface.ipv4 &&
                        before->switch_name == interface.switch_name,
                    before ? before->ipv4_since_s : 0, std::move(rule));
    }

    std::string ipv6_rule(const config::Interface& interface) const {
        const auto* wire = model_.find_switch(interface.switch_name);
        auto origin = interface.local ? std::string("host.local.ipv6")
                                      : fmt::format("switch.{}.ipv6", interface.switch_name);
        return fmt::format("of its ipv4 and {}, {} by {}",
                           wire && wire->ipv6 ? wire->ipv6->text() : "its switch", origin,
                           line_of(model_, origin));
    }

    std::string subnet_rule(const config::Interface& interface) const {
        const auto* wire = model_.find_switch(interface.switch_name);
        return fmt::format("a free address of {}, switch.{}.ipv4 by {}",
                           wire && wire->ipv4 ? wire->ipv4->text() : "its switch",
                           interface.switch_name,
                           line_of(model_, fmt::format("switch.{}.ipv4", interface.switch_name)));
    }

    const config::Model& model_;
    const config::Vm& vm_;
    const Knowledge& knowledge_;
    std::vector<Fact> facts_;
};

} // namespace

std::string_view name_of(Source source) {
    constexpr std::string_view names[] = {"file",       "template", "default", "derived",
                                          "remembered", "command",  "host",    "unknown"};
    return names[static_cast<std::size_t>(source)];
}

std::vector<Fact> explain(const config::Model& model, const config::Vm& vm,
                          const Knowledge& knowledge) {
    return Explanation(model, vm, knowledge).take();
}

std::string json_of(const std::vector<Fact>& facts) {
    auto out = nlohmann::json::array();
    for (const auto& fact : facts)
        out.push_back({{"what", fact.what},
                       {"value", fact.value},
                       {"source", std::string(name_of(fact.source))},
                       {"file", fact.place.file},
                       {"line", fact.place.line},
                       {"since_s", fact.since_s},
                       {"text", fact.text}});
    return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

} // namespace vmhost::host
