"""`wallet-actions demo-saga`: sagas over a cloud, killed at every write and every request, and what is left of them."""
