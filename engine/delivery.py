"""Deliveries: from positions at the gate to money in somebody's balance.

What is divided, and how, is in :mod:`engine.markets.dated`; here it happens, and the market that has nothing open any more is
forgotten.
"""

from engine.accounts import Account, Accounts
from engine.due import SETTLEMENT, START, Due
from engine.events import DeliveryAssigned, DeliverySettled, DeliveryUpdated, Event, MarketStateChanged
from engine.markets.dated import Delivery, Market, Settlement, contracted_hashes, pair
from engine.types import DeliveryState, MarketState


class Delivering:
    """What deliveries share with the rest of the engine: accounts, markets, the insurance account, and the agenda."""

    __slots__ = ("accounts", "deliveries", "due", "insurance", "markets", "next_delivery")

    def __init__(
        self,
        accounts: Accounts,
        markets: dict[str, Market],
        deliveries: dict[int, Delivery],
        insurance: Account,
        due: Due,
    ) -> None:
        self.accounts: Accounts = accounts
        self.markets: dict[str, Market] = markets
        self.deliveries: dict[int, Delivery] = deliveries
        self.insurance: Account = insurance
        self.due: Due = due
        # ids count from 1, over all markets
        self.next_delivery: int = 1

    def assign(self, market: Market, out: list[Event]) -> None:
        """The gate has closed: net shorts owe net longs from here on."""
        shorts: list[tuple[int, int]] = []
        longs: list[tuple[int, int]] = []
        for account_id, position in market.positions.items():
            if position.qty < 0:
                shorts.append((account_id, -position.qty))
            elif position.qty > 0:
                longs.append((account_id, position.qty))
        for seller, buyer, qty in pair(shorts, longs):
            self._assign(market, seller, buyer, qty, out)
        if market.deliveries:
            self.due.add_market(market.spec.period_start_ns, START, market.symbol)
            self.due.add_market(market.spec.settle_ns, SETTLEMENT, market.symbol)
        else:
            self._retire(market, out)

    def _assign(self, market: Market, seller_id: int, buyer_id: int, qty: int, out: list[Event]) -> None:
        """Move ``qty`` lots of a short and a long, with their shares of money, into a delivery."""
        spec = market.spec
        seller = self.accounts[seller_id]
        buyer = self.accounts[buyer_id]
        short = market.positions[seller_id]
        long = market.positions[buyer_id]
        proceeds = short.basis * qty // -short.qty
        bond = short.bond * qty // -short.qty
        cost = long.basis * qty // long.qty
        short.qty += qty
        short.basis -= proceeds
        short.bond -= bond
        long.qty -= qty
        long.basis -= cost
        url, worker = buyer.destinations.get(market.symbol, ("", ""))
        work = contracted_hashes(spec, qty)
        delivery_id = self.next_delivery
        self.next_delivery += 1
        delivery = Delivery(delivery_id, market.symbol, seller_id, buyer_id, qty, work, proceeds, bond, cost, url, worker)
        self.deliveries[delivery_id] = delivery
        market.deliveries.append(delivery_id)
        seller.event_seq += 1
        buyer.event_seq += 1
        out.append(
            DeliveryAssigned(
                delivery_id,
                market.symbol,
                seller_id,
                seller.event_seq,
                buyer_id,
                buyer.event_seq,
                qty,
                qty * spec.lot_hashrate,
                work,
                spec.period_start_ns,
                spec.period_end_ns,
                proceeds,
                bond,
                cost,
                url,
                worker,
            )
        )

    def start(self, market: Market, out: list[Event]) -> None:
        """The period begins."""
        for delivery_id in market.deliveries:
            delivery = self.deliveries[delivery_id]
            delivery.state = DeliveryState.RUNNING
            self.tell(delivery, out)

    def tell(self, delivery: Delivery, out: list[Event]) -> None:
        """Say how a delivery stands, to both its accounts."""
        seller = self.accounts[delivery.seller]
        buyer = self.accounts[delivery.buyer]
        seller.event_seq += 1
        buyer.event_seq += 1
        out.append(
            DeliveryUpdated(
                delivery.delivery_id,
                delivery.market,
                delivery.seller,
                seller.event_seq,
                delivery.buyer,
                buyer.event_seq,
                delivery.state,
                delivery.proven_hashes,
                delivery.excused_hashes,
                delivery.shares,
                delivery.url,
                delivery.worker,
            )
        )

    def settle(self, market: Market, index_price: int, out: list[Event]) -> None:
        """Divide the money of every delivery, then forget the market."""
        insurance = self.insurance
        for delivery_id in market.deliveries:
            delivery = self.deliveries.pop(delivery_id)
            share = Settlement(delivery, market, index_price, insurance.balance - insurance.held)
            seller = self.accounts[delivery.seller]
            buyer = self.accounts[delivery.buyer]
            insurance.balance += share.surplus - share.from_insurance
            seller.balance += share.paid + share.bond_released
            buyer.balance += share.refund + share.compensation
            delivery.state = DeliveryState.SETTLED
            seller.event_seq += 1
            buyer.event_seq += 1
            out.append(
                DeliverySettled(
                    delivery_id,
                    market.symbol,
                    delivery.seller,
                    seller.event_seq,
                    delivery.buyer,
                    buyer.event_seq,
                    delivery.contracted_hashes,
                    share.delivered,
                    share.breach,
                    share.paid,
                    share.refund,
                    share.compensation,
                    share.bond_released,
                    share.surplus,
                    share.from_insurance,
                    share.uncovered,
                    seller.balance,
                    seller.held,
                    buyer.balance,
                    buyer.held,
                )
            )
        market.deliveries.clear()
        self._retire(market, out)

    def _retire(self, market: Market, out: list[Event]) -> None:
        """Nothing is open in a closed market any more: forget it."""
        for account_id in market.positions:
            account = self.accounts[account_id]
            del account.positions[market.symbol]
            if account.latest is market:
                account.latest = account.latest_position = None
        for account_id in market.destined:
            del self.accounts[account_id].destinations[market.symbol]
        # orders that are remembered know the market a while longer
        market.positions.clear()
        market.destined.clear()
        market.state = MarketState.SETTLED
        del self.markets[market.symbol]
        out.append(MarketStateChanged(market.symbol, MarketState.SETTLED))
