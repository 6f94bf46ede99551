"""Pays an order and prints what becomes of its payment: python pay.py 400"""

import os
import sys
import time
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import payments_pb2 as pb
import payments_pb2_grpc

SERVICE_CONFIG = Path(__file__).parents[2] / "proto" / "payments_grpc_service_config.json"


def reason(error: grpc.RpcError) -> str:
    """The reason in the google.rpc.ErrorInfo of a refused call."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return ""


def wait_for(payments: payments_pb2_grpc.PaymentsApiStub, order: int, seconds: float) -> pb.Payment:
    """The payment of an order. A reservation takes a moment until it is a payment."""
    end = time.monotonic() + seconds
    while True:
        try:
            return payments.GetPayment(pb.GetPaymentRequest(order_id=order), timeout=5)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND or time.monotonic() > end:
                raise
        time.sleep(0.1)


def main(order: int) -> int:
    address = os.environ.get("GRPC_ADDR", "localhost:8081")
    options = [("grpc.service_config", SERVICE_CONFIG.read_text())]
    # with TLS: grpc.secure_channel, and the token by grpc.access_token_call_credentials
    with grpc.insecure_channel(address, options=options) as channel:
        payments = payments_pb2_grpc.PaymentsApiStub(channel)
        try:
            before = wait_for(payments, order, seconds=10)
            print(f"order {order} {pb.PaymentStatus.Name(before.status)}")
            # paying again changes nothing: call again when the answer is lost
            payments.UpdatePaymentStatus(pb.PayStatus(order_id=order, status=True), timeout=5)
            after = wait_for(payments, order, seconds=0)
            print(f"order {order} {pb.PaymentStatus.Name(after.status)}")
            return 0
        except grpc.RpcError as error:
            print(f"order {order}: {error.code().name}: {error.details()} ({reason(error)})", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
