// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// Holds a buyer's payment until the buyer releases it to the seller, or the arbiter settles a dispute.
contract Escrow {
    enum State { None, Funded, Disputed, Released, Refunded }

    /// Two words of storage; what is no longer needed is cleared when the agreement ends.
    struct Agreement {
        address buyer;
        uint96 amount;
        address seller;
        State state;
    }

    address public immutable arbiter;
    mapping(uint256 => Agreement) public agreements;

    event Deposited(uint256 indexed id, address indexed buyer, address indexed seller, uint256 amount);
    event Disputed(uint256 indexed id, address indexed by);
    event Released(uint256 indexed id, uint256 amount);
    event Refunded(uint256 indexed id, uint256 amount);

    error NothingPaid();
    error WrongState(uint256 id, State state);
    error NotAllowed(address caller);
    error TooMuchPaid(uint256 amount);
    error TransferFailed(address to);

    constructor() {
        arbiter = msg.sender;
    }

    /// The buyer pays in. `id` is the platform's number of the transaction and can be used once.
    function deposit(uint256 id, address seller) external payable {
        if (msg.value == 0) revert NothingPaid();
        if (msg.value > type(uint96).max) revert TooMuchPaid(msg.value);
        Agreement storage agreement = agreements[id];
        if (agreement.state != State.None) revert WrongState(id, agreement.state);
        agreements[id] = Agreement(msg.sender, uint96(msg.value), seller, State.Funded);
        emit Deposited(id, msg.sender, seller, msg.value);
    }

    /// The buyer, or the arbiter after a dispute, pays the seller.
    function release(uint256 id) external {
        Agreement storage agreement = agreements[id];
        bool settled = agreement.state == State.Disputed;
        if (agreement.state != State.Funded && !settled) revert WrongState(id, agreement.state);
        if (msg.sender != (settled ? arbiter : agreement.buyer)) revert NotAllowed(msg.sender);
        (address seller, uint256 amount) = (agreement.seller, agreement.amount);
        agreements[id] = Agreement(address(0), 0, address(0), State.Released);
        emit Released(id, amount);
        pay(seller, amount);
    }

    /// The buyer or the seller calls for the arbiter.
    function dispute(uint256 id) external {
        Agreement storage agreement = agreements[id];
        if (agreement.state != State.Funded) revert WrongState(id, agreement.state);
        if (msg.sender != agreement.buyer && msg.sender != agreement.seller) revert NotAllowed(msg.sender);
        agreement.state = State.Disputed;
        emit Disputed(id, msg.sender);
    }

    /// The arbiter pays the buyer back.
    function refund(uint256 id) external {
        Agreement storage agreement = agreements[id];
        if (msg.sender != arbiter) revert NotAllowed(msg.sender);
        if (agreement.state != State.Disputed) revert WrongState(id, agreement.state);
        (address buyer, uint256 amount) = (agreement.buyer, agreement.amount);
        agreements[id] = Agreement(address(0), 0, address(0), State.Refunded);
        emit Refunded(id, amount);
        pay(buyer, amount);
    }

    /// The state is changed before money moves, so a seller that calls back finds nothing left to take.
    function pay(address to, uint256 amount) private {
        (bool sent, ) = payable(to).call{value: amount}("");
        if (!sent) revert TransferFailed(to);
    }
}
