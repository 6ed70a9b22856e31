"""Balances, payments and transfers of a key's account."""

from typing import Final

from gateway.nicehash import answers, ids, problems
from gateway.nicehash.calls import Call, page_of
from gateway.nicehash.history import Kind
from gateway.nicehash.problems import Problem
from gateway.nicehash.views import balance_view, movement_view, payment_view

CURRENCY: Final = "BTC"


def accounts(call: Call) -> None:
    account = call.account
    call.read(answers.Accounts(total=balance_view(account, True), currencies=[balance_view(account, False)]))


def _check_currency(call: Call) -> None:
    if call.path["currency"].upper() != CURRENCY:
        raise Problem(problems.NOT_FOUND, problems.INPUT, f"currency: there is {CURRENCY} only")


def account(call: Call) -> None:
    _check_currency(call)
    call.read(balance_view(call.account, False))


def _movements(call: Call, kinds: tuple[Kind, ...]) -> None:
    _check_currency(call)
    number = call.account.account_id

    def answer() -> None:
        found = call.history.payments(number, kinds)
        first, last, pages = page_of(len(found), call.query)
        shown = answers.Pagination(size=call.query["size"], page=call.query["page"], total_page_count=pages)
        call.answer(answers.Movements(rows=[movement_view(payment) for payment in found[first:last]], pagination=shown))

    call.later(answer)


def transactions(call: Call) -> None:
    _movements(call, ())


def deposits(call: Call) -> None:
    _movements(call, ("deposit",))


def withdrawals(call: Call) -> None:
    _movements(call, ("withdrawal",))


def earnings(call: Call) -> None:
    _movements(call, ("earned",))


def order_transactions(call: Call) -> None:
    order_id = ids.from_uuid(ids.ORDER, call.path["id"])
    number = call.account.account_id

    def answer() -> None:
        found = [payment for payment in call.history.payments(number) if payment.order_id == order_id]
        call.answer(answers.Payments(transactions=[payment_view(payment) for payment in found]))

    call.later(answer)
