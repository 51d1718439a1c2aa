"""What would, and did, an order get?"""
