// One message on its way through the rules. Private to server.cc and rules.cc.
#pragma once

#include "dhcp/packet.h"
#include "dhcp/server.h"

namespace vmhost::dhcp {

struct Server::Turn {
    const Incoming& incoming;
    Event event;
    Served* served = nullptr;
    Record* record = nullptr; // of a guest; of others
    Subnet* subnet = nullptr;
    Binding* binding = nullptr; // null: has no address yet
    bool relayed = false;
    Mac client; // who it is about
    Message message;
    std::optional<store::LeaseRow> row;
    std::optional<Ipv4> check;

    const Network& network() const { return served->network; }
    const Guest& guest() const { return record->guest; }
    const Header& header() const { return message.header; }
    Holding* held() const { return record ? &record->held : binding ? &binding->held : nullptr; }
    Ipv4 address() const { return record ? *guest().ipv4 : binding->address; }
    bool is_bound() const { return held() && held()->state == LeaseState::bound; }
};

} // namespace vmhost::dhcp
